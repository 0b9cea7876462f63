"""The agent archive: the agent and all that it requires in one file, which any Python from 3.11 on can run.

It is a zip file behind a few lines of shell, so both `sh FILE` and `python3 FILE` start it; what then happens is in
`unpacking`. The same installation makes the same bytes: fixed times and modes, sorted names, nothing compiled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeq.core.digest import Digest
from kubeq.errors import BackendError
from kubeq.nodes.packages import Package, packages_for
from kubeq.release import agent_code, this_release

LEAST_PYTHON = 11
"""The minor number of the oldest Python 3 that kubeq itself runs on (it uses StrEnum and datetime.UTC)."""
_LAUNCHER = """\
#!/bin/sh
# The agent of kubeq {release}. It runs with the first Python from 3.{least} on that is found here.
for python in ${{KUBEQ_AGENT_PYTHON:-python3 {names} /usr/bin/python3 /usr/local/bin/python3}}; do
    if "$python" -c 'import sys, json, ssl, zipfile, zlib; sys.exit(sys.version_info < (3, {least}))' 2>/dev/null; then
        exec "$python" "$0" "$@"
    fi
done
echo "error: the agent of kubeq {release} needs Python 3.{least} or newer, and this machine has none" >&2
echo "hint: install one, name it in KUBEQ_AGENT_PYTHON, or run the agent's image with Docker" >&2
exit 2
"""
_MAIN = """\
import sys

if sys.version_info < (3, {least}):
    sys.stderr.write("error: the agent of kubeq {release} needs Python 3.{least} or newer, and this is %d.%d\\n"
                     "hint: start it as sh FILE, which looks for a newer one\\n" % sys.version_info[:2])
    sys.exit(2)

import os
from pathlib import Path
from unpacking import run

run(Path(sys.argv[0]).resolve(), os.environ)
"""
_NEWEST_PYTHON = 15
"""Names of interpreters up to here are tried, the newest first."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip file can hold."""
_UNIX = 3
_SMALLEST = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive that lies on this machine. `python` is the minor number of the oldest Python 3 that runs it."""

    path: Path
    digest: Digest
    release: str
    python: int


@dataclass(frozen=True, slots=True)
class _Member:
    content: bytes
    executable: bool = False


def agent_archive(extras: Iterable[str], cache_dir: Path) -> Archive:
    """The archive for agents that need those extras, made unless it lies in the cache already.

    Raises UsageError for what cannot be packed, BackendError for a cache that cannot be written.
    """
    packages = packages_for(extras)
    least = max(LEAST_PYTHON, *(package.python for package in packages))
    launcher, members = _launcher(least), _members(packages, least)
    folder = cache_dir / "agents"
    path = folder / f"{_fingerprint(launcher, members)}.pyz"
    try:
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, _packed(launcher, members))
        content = path.read_bytes()
    except OSError as error:
        raise BackendError(
            f"the agent cannot be packed into {folder}: {error.strerror or error}",
            hint="name another folder: KUBEQ_CACHE_DIR=DIR",
        ) from error
    return Archive(path=path, digest=Digest.of(content), release=this_release(), python=least)


def interpreters(least: int) -> str:
    """The names under which a Python of at least 3.`least` may be found, the newest first."""
    return " ".join(f"python3.{minor}" for minor in range(_NEWEST_PYTHON, least - 1, -1))


def _launcher(least: int) -> bytes:
    return _LAUNCHER.format(release=this_release(), least=least, names=interpreters(least)).encode()


def _members(packages: Iterable[Package], least: int) -> Mapping[str, _Member]:
    """Everything that goes in, by its name there, in the order of the names."""
    packages = list(packages)
    files = {name: path for package in packages for name, path in package.files.items()} | dict(agent_code())
    members = {name: _Member(path.read_bytes(), _is_program(name)) for name, path in files.items()}
    members["unpacking.py"] = _Member(Path(__file__).with_name("unpacking.py").read_bytes())
    members["__main__.py"] = _Member(_MAIN.format(release=this_release(), least=least).encode())
    members["kubeq-agent.json"] = _Member(
        json.dumps(
            {
                "schema": 1,
                "release": this_release(),
                "python": f"3.{least}",
                "packages": {package.name: package.version for package in packages},
            },
            indent=1,
        ).encode()
    )
    return {name: members[name] for name in sorted(members)}


def _is_program(name: str) -> bool:
    return name.startswith("kubeq_consumer/runtimes/exec/kubeq-exec.")


def _fingerprint(launcher: bytes, members: Mapping[str, _Member]) -> str:
    """Names the contents before anything is packed."""
    hasher = hashlib.sha256(launcher)
    for name, member in members.items():
        hasher.update(f"{name} {member.executable} {hashlib.sha256(member.content).hexdigest()}\n".encode())
    return hasher.hexdigest()


def _packed(launcher: bytes, members: Mapping[str, _Member]) -> bytes:
    """The bytes of the archive. They are the same again as long as zlib compresses in the same way."""
    packed = io.BytesIO()
    packed.write(launcher)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=_SMALLEST) as file:
        for name, member in members.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = (0o100755 if member.executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, member.content)
    return packed.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Have the file there, all of it or nothing, also after a crash of the machine."""
    handle, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
