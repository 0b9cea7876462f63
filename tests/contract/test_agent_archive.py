"""The agent archive on Pythons of this machine that have never heard of kubeq, with an empty environment."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from kubeq.nodes.archive import LEAST_PYTHON, Archive, agent_archive
from kubeq.release import this_release

PLAIN = Path(sys.base_prefix) / "bin/python3"
"""The Python below the virtual environment of the tests."""
NOT_TOLD = "error: the agent cannot start: KUBEQ_AGENT_POOL is not set"
IMPORT_ALL = """
import importlib, json, sys
sys.path[0] = sys.argv[1]
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules if "site-packages" in str(getattr(sys.modules[name], "__file__", ""))})))
"""  # noqa: E501


def version_of(python: Path) -> tuple[int, int]:
    asked = "import sys; sys.stdout.write('%d %d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", asked], env={}, capture_output=True, text=True)
    major, minor = done.stdout.split() if done.returncode == 0 else ("0", "0")
    return int(major), int(minor)


def pythons() -> dict[tuple[int, int], Path]:
    """One interpreter of each version that is found in the usual places."""
    candidates = [PLAIN, Path("/usr/bin/python3"), Path("/usr/bin/python2")]
    candidates += sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    found = {version_of(path): path for path in reversed(candidates) if path.exists()}
    return {version: path for version, path in found.items() if version > (0, 0)}


PYTHONS = pythons()
NEW = [path for version, path in PYTHONS.items() if version >= (3, LEAST_PYTHON)]
OLD = [path for version, path in PYTHONS.items() if version < (3, LEAST_PYTHON)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return agent_archive(("aws",), tmp_path_factory.mktemp("cache"))


def run(*words: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    """The words with nothing in the environment but what is named."""
    given = {name: str(value) for name, value in environment.items()}
    return subprocess.run(words, env=given, cwd="/", capture_output=True, text=True, timeout=120)


def test_a_plain_python_runs_it_and_what_the_agent_says_comes_through(archive: Archive, tmp_path: Path) -> None:
    for python in NEW:
        done = run(python, archive.path, HOME=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(NOT_TOLD), f"{python}: {done.stderr}"
    assert [path.name for path in (tmp_path / ".cache/kubeq/agents").iterdir()] == [archive.digest.sha256]


def test_a_shell_runs_it_with_the_first_python_that_will_do(archive: Archive, tmp_path: Path) -> None:
    old = tmp_path / "old/python3"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/python3.11").symlink_to(PLAIN)
    done = run("sh", archive.path, HOME=tmp_path, PATH=f"{old.parent}:{tmp_path / 'new'}:/usr/bin:/bin")
    assert (done.returncode, done.stderr[: len(NOT_TOLD)]) == (2, NOT_TOLD)


def test_a_machine_without_a_python_that_will_do_is_told_so_in_a_line(archive: Archive, tmp_path: Path) -> None:
    done = run("sh", archive.path, HOME=tmp_path, PATH="/usr/bin:/bin", KUBEQ_AGENT_PYTHON="/nonexistent")
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error == f"error: the agent of kubeq {this_release()} needs Python 3.11 or newer, and this machine has none"
    assert "Docker" in hint


@pytest.mark.parametrize("python", OLD, ids=str)
def test_an_older_python_is_refused_in_a_line(archive: Archive, tmp_path: Path, python: Path) -> None:
    done = run(python, archive.path, HOME=tmp_path)
    assert done.returncode == 2
    assert f"needs Python 3.{LEAST_PYTHON} or newer, and this is " in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_what_an_older_python_reads_first_is_nothing_new_to_it(archive: Archive) -> None:
    with zipfile.ZipFile(archive.path) as file:
        main = file.read("__main__.py").decode()
    ast.parse(main, feature_version=(3, 4))
    lie = (
        f"import sys, runpy; sys.version_info = (3, 10, 2); runpy.run_path({str(archive.path)!r}, run_name='__main__')"
    )
    done = run(PLAIN, "-c", lie)
    assert (done.returncode, "and this is 3.10" in done.stderr) == (2, True)


def test_every_module_of_it_can_be_imported_with_nothing_installed(archive: Archive, tmp_path: Path) -> None:
    assert run(PLAIN, archive.path, HOME=tmp_path).returncode == 2
    folder = tmp_path / ".cache/kubeq/agents" / archive.digest.sha256
    ours = [
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for package in ("kubeq", "kubeq_consumer")
        for path in (folder / package).rglob("*.py")
        if path.name not in ("__main__.py", "gcp.py")  # Google's libraries are in the image alone
        and not path.name.startswith(("gcs", "datastore"))
    ]
    others = ["docker", "boto3", "botocore.session", "s3transfer", "requests", "charset_normalizer.md"]
    done = run(PLAIN, "-S", "-c", IMPORT_ALL, folder, json.dumps(ours + others), HOME=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert len(ours) > 80


def test_many_starts_at_once_unpack_it_once(archive: Archive, tmp_path: Path) -> None:
    starts = [
        subprocess.Popen([PLAIN, archive.path], env={"HOME": str(tmp_path)}, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    said = [start.communicate(timeout=120)[1] for start in starts]
    assert all(each.startswith(NOT_TOLD) for each in said), said
    assert [path.name for path in (tmp_path / ".cache/kubeq/agents").iterdir()] == [archive.digest.sha256]


@pytest.mark.parametrize("damage", ["missing", "changed", "emptied"])
def test_what_was_damaged_is_unpacked_anew(archive: Archive, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    assert run(PLAIN, archive.path, KUBEQ_AGENT_CACHE=cache).returncode == 2
    file = cache / "agents" / archive.digest.sha256 / "kubeq_consumer/settings.py"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(whole.replace(b"is not set", b"is NOT set") if damage == "changed" else b"")
    done = run(PLAIN, archive.path, KUBEQ_AGENT_CACHE=cache)
    assert done.stderr.startswith(NOT_TOLD)
    assert file.read_bytes() == whole
    assert len(list((cache / "agents").iterdir())) == 1


def test_what_a_killed_start_left_goes_in_time(archive: Archive, tmp_path: Path) -> None:
    agents = tmp_path / "agents"
    for name, age in ((".old", 100_000.0), (".young", 10.0)):
        (agents / name).mkdir(parents=True)
        os.utime(agents / name, (time.time() - age,) * 2)
    agents.chmod(0o700)
    run(PLAIN, archive.path, KUBEQ_AGENT_CACHE=tmp_path)
    assert {path.name for path in agents.iterdir()} == {".young", archive.digest.sha256}


def test_another_archive_than_the_one_that_was_sent_is_not_run(archive: Archive, tmp_path: Path) -> None:
    done = run(PLAIN, archive.path, HOME=tmp_path, KUBEQ_AGENT_ARCHIVE=str(archive.digest))
    assert done.stderr.startswith(NOT_TOLD)
    other = tmp_path / "other.pyz"
    other.write_bytes(archive.path.read_bytes().replace(b"# The agent", b"# An  agent"))
    done = run(PLAIN, other, HOME=tmp_path / "fresh", KUBEQ_AGENT_ARCHIVE=str(archive.digest))
    assert done.returncode == 7
    assert done.stderr.startswith(f"error: the agent archive {other} is not the one that was sent\n")
    assert not (tmp_path / "fresh").exists()


def test_another_release_than_the_wanted_one_ends_before_anything_else(archive: Archive, tmp_path: Path) -> None:
    done = run(PLAIN, archive.path, HOME=tmp_path, KUBEQ_AGENT_RELEASE="0.0.1+abc")
    assert done.returncode == 5
    assert done.stderr.startswith(
        f"error: this agent is of kubeq {this_release()}, and whoever started it wants kubeq 0.0.1+abc\n"
    )
    assert run(PLAIN, archive.path, HOME=tmp_path, KUBEQ_AGENT_RELEASE=this_release()).stderr.startswith(NOT_TOLD)


def test_a_folder_that_others_may_write_is_not_used(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir(mode=0o700)
    (tmp_path / "agents").chmod(0o777)
    done = run(PLAIN, archive.path, KUBEQ_AGENT_CACHE=tmp_path)
    assert done.returncode == 6
    assert "does not belong to the agent's user alone" in done.stderr
