#!/usr/bin/env python3
"""Makes the agent's image from this checkout, and prints its name.

    .venv/bin/python images/consumer/build.py [--base IMAGE] [--name NAME]

BASE is an image with Python 3.11 or newer and the GNU C library; without it, images/base/build.py chooses one. NAME is
what `consumer_image` says in the configuration (kubeq-consumer); without a tag it gets that of this very kubeq. To have
the image on other machines, push it: `docker push NAME`.

In it are the files of the agent archive, and what an archive cannot hold because it is compiled: the packages of the
extra `gcp`, as wheels for the Python and the processor of the base. pip downloads those once, in the versions that this
Python has installed where it has them, and they are kept in ${XDG_CACHE_HOME:-$HOME/.cache}/kubeq.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "consumer")]

import kubeq  # noqa: E402
from kubeq.errors import KubeqError  # noqa: E402
from kubeq.nodes.archive import LEAST_PYTHON, Archive, agent_archive  # noqa: E402
from kubeq.nodes.forms import image_name  # noqa: E402
from kubeq.nodes.packages import COMPILED, EXTRAS  # noqa: E402

OLDEST_GLIBC = 17
"""manylinux2014 is glibc 2.17 (PEP 600)."""
ASK = "import json, platform, sys; print(json.dumps([sys.version_info[:2], platform.machine(), platform.libc_ver()]))"


class CannotBuild(Exception):
    """There is no image; the text is one sentence for the user."""


def say(text: str) -> None:
    print(f"agent image: {text}", file=sys.stderr, flush=True)


def run(*words: str | Path, **more: str) -> str:
    """What the command printed. CannotBuild with its last line if it failed."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | more)
    except OSError as error:
        raise CannotBuild(f"{words[0]}: {error.strerror}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise CannotBuild(f"{' '.join(map(str, words[:3]))} failed: {said[-1]}")
    return done.stdout.strip()


def cache_folder() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (caches if caches.is_absolute() else Path.home() / ".cache") / "kubeq"


# ---- what an archive cannot hold ----


def wheel_options(base: str) -> list[str]:
    """pip's options for wheels that run in the base."""
    answer = run("docker", "run", "--rm", "--entrypoint", "python3", base, "-c", ASK)
    (major, minor), machine, (libc, version) = json.loads(answer)
    if (major, minor) < (3, LEAST_PYTHON) or libc != "glibc":
        has = f"Python {major}.{minor} and {libc or 'no glibc'}"
        raise CannotBuild(f"{base} has {has}; Python 3.{LEAST_PYTHON} and glibc are needed")
    glibcs = range(OLDEST_GLIBC, int(version.split(".")[1]) + 1)
    platforms = [f"manylinux2014_{machine}", *(f"manylinux_2_{glibc}_{machine}" for glibc in glibcs)]
    pairs = [("--platform", name) for name in platforms] + [("--abi", abi) for abi in (f"cp3{minor}", "abi3", "none")]
    return ["--implementation", "cp", "--python-version", f"3.{minor}", *(word for pair in pairs for word in pair)]


def constraints() -> list[str]:
    """The versions of everything that is installed here."""
    found = {each.metadata["Name"].lower(): each.version for each in metadata.distributions() if each.metadata["Name"]}
    return sorted(f"{name}=={version}" for name, version in found.items() if name != "kubeq")


def compiled_wheels(base: str) -> Sequence[Path]:
    """The wheels of what cannot go into an archive, and of all that they require."""
    wanted = [requirement for extra in sorted(COMPILED) for requirement in EXTRAS[extra]]
    options, pinned = wheel_options(base), constraints()
    key = hashlib.sha256(json.dumps([wanted, options, pinned]).encode()).hexdigest()[:16]
    folder = cache_folder() / f"wheels-{key}"
    if not folder.is_dir():
        say(f"downloading {' and '.join(wanted)} for {base}")
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            (Path(temporary) / "constraints.txt").write_text("\n".join(pinned))
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            places = ["--dest", f"{temporary}/wheels", "--constraint", f"{temporary}/constraints.txt"]
            run(*download, "--only-binary=:all:", *options, *places, *wanted)
            if not folder.is_dir():
                (Path(temporary) / "wheels").rename(folder)
    return sorted(folder.glob("*.whl"))


# ---- the image ----


def lay_out(folder: Path, archive: Archive, wheels: Iterable[Path]) -> None:
    """The packages as they lie in the image; where both have a file, it is the archive's."""
    for package in (*wheels, archive.path):
        with zipfile.ZipFile(package) as file:
            for entry in file.infolist():
                if entry.is_dir():
                    continue
                place = folder / entry.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read(entry))
                place.chmod(0o755 if entry.external_attr >> 16 & 0o100 else 0o644)
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        path.chmod(0o755)


def build(base: str, name: str) -> None:
    """Have the image of that name on the engine; nothing is done if it is the very one already."""
    archive = agent_archive(sorted(set(EXTRAS) - COMPILED), cache_folder())
    told = {"BASE": base, "VERSION": kubeq.__version__, "RELEASE": archive.release, "ARCHIVE": str(archive.digest)}
    if labels_of(name) == {f"kubeq.{key.lower()}": value for key, value in told.items()}:
        say("made earlier")
        return
    with tempfile.TemporaryDirectory() as temporary:
        context = Path(temporary)
        lay_out(context / "packages", archive, compiled_wheels(base))
        for file in ("Dockerfile", "kubeq-consumer"):
            shutil.copy(HERE / file, context)
        arguments = [word for pair in told.items() for word in ("--build-arg", "=".join(pair))]
        run("docker", "build", "--quiet", "--tag", name, *arguments, context, **builder())


def labels_of(name: str) -> dict[str, str]:
    """What the image on the engine says of itself; nothing if there is none."""
    asked = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", name]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else None
    return {key: value for key, value in (found or {}).items() if key.startswith("kubeq.")}


def builder() -> dict[str, str]:
    """The classic builder where Docker has no other; it is on its way out elsewhere."""
    found = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    return {} if found.returncode == 0 else {"DOCKER_BUILDKIT": "0"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="an image with Python")
    parser.add_argument("--name", default="kubeq-consumer", help="what consumer_image says; kubeq-consumer by default")
    chosen = parser.parse_args()
    name = image_name(chosen.name)
    try:
        base = chosen.base or run(sys.executable, ROOT / "images/base/build.py")
        build(base, name)
    except CannotBuild as error:
        say(str(error))
        return 3
    except KubeqError as error:
        say(error.message + (f"; {error.hint}" if error.hint else ""))
        return 3
    print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
