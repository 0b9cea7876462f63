"""The scripts that get an engine and images: what they answer, and that the images do what they promise."""

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

IMAGES = Path(__file__).resolve().parents[3] / "images"
NOWHERE = "unix:///nonexistent/docker.sock"
STRANGER = ["--network", "none", "--user", "54321:54321"]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """`images/base/build.py`, imported."""
    spec = importlib.util.spec_from_file_location("images_base_build", IMAGES / "base" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}, check=False
    )


# ---- the archive of an image ----


def members(tree: object) -> dict[str, tarfile.TarInfo]:
    stream = io.BytesIO()
    tree.write(stream)  # type: ignore[attr-defined]
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as archive:
        return {info.name: info for info in archive}


def test_a_tree_has_the_directories_that_programs_expect(build: ModuleType) -> None:
    found = members(build.Tree())
    assert found["tmp"].mode == found["var/tmp"].mode == 0o1777
    assert {"dev", "etc", "home", "proc", "root", "run", "sys", "usr/bin", "usr/sbin", "var"} <= found.keys()
    assert {name: found[name].linkname for name in ("bin", "sbin", "lib", "lib64")} == {
        "bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
    }  # fmt: skip


def test_a_tree_puts_old_top_directories_below_usr_and_parents_first(build: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_text("x")
    source.chmod(0o4700)
    tree = build.Tree()
    tree.file("/lib/deep/er/tool", source)
    tree.text("etc/passwd", "root")
    found = members(tree)
    assert "lib/deep" not in found
    names = list(found)
    assert names.index("usr/lib/deep") < names.index("usr/lib/deep/er") < names.index("usr/lib/deep/er/tool")
    assert found["usr/lib/deep/er/tool"].mode == 0o755
    assert found["usr/lib/deep/er/tool"].mtime == int(source.stat().st_mtime)
    assert (found["etc/passwd"].size, found["etc/passwd"].mode) == (4, 0o644)


def test_files_belong_to_root_whoever_makes_the_image(build: ModuleType) -> None:
    assert {(info.uid, info.gid) for info in members(build.Tree()).values()} == {(0, 0)}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="images are made of Linux programs")
def test_the_libraries_of_python_are_found_with_the_c_library_among_them(build: ModuleType) -> None:
    program = build.python_program()
    libraries = build.libraries_of([program])[program]
    assert any(name.startswith("libc.") for name in libraries)
    assert all(path.is_file() for path in libraries.values())


def test_a_digest_changes_with_each_of_its_parts(build: ModuleType) -> None:
    names = {build.digest(parts) for parts in ([], [b"a"], [b"b"], [b"a", b"b"], [b"ab"], [b"b", b"a"])}
    assert len(names) == 6
    assert all(re.fullmatch(r"[0-9a-f]{12}", name) for name in names)


# ---- one sentence where it cannot work ----


@pytest.mark.parametrize("options", [[], ["--minimal"], ["--no-pull"]])
def test_no_engine_is_said_in_one_line_and_exit_3(options: Sequence[str]) -> None:
    done = run(sys.executable, IMAGES / "base" / "build.py", *options, DOCKER_HOST=NOWHERE)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "base: no Docker engine answers; start one with: sh images/engine.sh\n"


def test_an_engine_elsewhere_that_does_not_answer_is_not_replaced_by_one_here() -> None:
    done = run("sh", IMAGES / "engine.sh", DOCKER_HOST=NOWHERE)
    assert done.returncode == 3
    assert done.stderr == f"engine: no Docker engine: DOCKER_HOST is {NOWHERE}, and nothing answers there\n"


def test_a_machine_without_engine_and_packages_is_told_so(tmp_path: Path) -> None:
    for name in ("sh", "id", "uname", "mkdir", "date", "sed", "cat"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    done = run("sh", IMAGES / "engine.sh", PATH=str(tmp_path), DOCKER_HOST="")
    assert done.returncode == 3
    assert re.fullmatch(r"engine: no Docker engine: .*; .*install.*\n", done.stderr)


# ---- with an engine ----


def test_an_engine_that_answers_is_left_alone(docker_engine: str) -> None:
    done = run("sh", IMAGES / "engine.sh")
    assert done.returncode == 0
    assert re.fullmatch(r"engine: Docker engine \S+ answers already\n", done.stdout)


def test_an_unknown_wish_is_refused(docker_engine: str) -> None:
    done = run(sys.executable, IMAGES / "base" / "build.py", KUBEQ_BASE="other")
    assert done.returncode == 3
    assert done.stderr == "base: KUBEQ_BASE is 'other'; it can be local or public\n"


def test_a_second_call_names_the_same_image_and_makes_nothing(docker_engine: str) -> None:
    names = set()
    for _ in range(2):
        done = run(sys.executable, IMAGES / "base" / "build.py", KUBEQ_BASE="local")
        assert done.returncode == 0, done.stderr
        names.add(done.stdout)
    assert len(names) == 1
    assert re.fullmatch(r"kubeq-base:[0-9a-f]{12}\n", names.pop())
    assert "made earlier" in done.stderr


PROMISES = """
import importlib, os, subprocess, sys, tempfile
for name in sys.argv[1:]:
    importlib.import_module(name)
assert os.getuid() == 54321
tempfile.TemporaryFile()
assert subprocess.check_output(["sh", "-c", "seq 3 | sort -r | tr -d '\\n'"]) == b"321"
print("kept", sys.version_info[:2], sys.stdout.encoding)
"""


IMPORTABLE = """
import importlib, sys
left_out = {"antigravity", "this", "idlelib", "test", "tkinter", "turtle", "turtledemo"}
for name in sorted(name for name in sys.stdlib_module_names - left_out if not name.startswith("_")):
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    print(name)
"""


def test_the_base_image_has_the_standard_library_and_tools_for_any_user(docker_engine: str) -> None:
    image = run(sys.executable, IMAGES / "base" / "build.py", KUBEQ_BASE="local").stdout.strip()
    modules = run(sys.executable, "-W", "ignore", "-c", IMPORTABLE).stdout.split()
    assert len(modules) > 150
    done = run("docker", "run", "--rm", *STRANGER, image, "python3", "-c", PROMISES, *modules)
    assert (done.returncode, done.stdout) == (0, f"kept {sys.version_info[:2]} utf-8\n"), done.stderr


def test_the_minimal_image_is_a_shell_and_its_tools(busybox_image: str) -> None:
    assert re.fullmatch(r"kubeq-busybox:[0-9a-f]{12}", busybox_image)
    script = "touch /tmp/x && ls /tmp && id -u && awk 'BEGIN { print 6 * 7 }'"
    done = run("docker", "run", "--rm", *STRANGER, busybox_image, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "x\n54321\n42\n"), done.stderr
    size = int(run("docker", "image", "inspect", "-f", "{{.Size}}", busybox_image).stdout)
    assert size < 4_000_000
