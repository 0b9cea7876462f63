"""What an agent archive does when it is started: unpack itself once, and run the agent from there.

This file is copied into every archive and runs on the node, so it imports nothing but the standard library. The folder
is named by the archive's digest. It gets that name when all of it is there, so any number of starts at once is well;
each start looks whether what lies there is whole.
"""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

WANTED = "KUBEQ_AGENT_ARCHIVE"
"""Names the digest, `<sha256>-<size>`, that the archive must have; without it any archive runs."""
INTEGRITY, BACKEND = 7, 6
"""The exit codes of kubeq's errors."""
STALE_S = 86400.0
"""What was left half unpacked longer ago is removed."""
_OTHERS_MAY_WRITE = 0o022


def run(archive: Path, environ: Mapping[str, str]) -> None:
    """Run the agent in the archive; returns when it has left. Ends the process with one sentence where it cannot."""
    content = archive.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    wanted = environ.get(WANTED, "")
    if wanted not in ("", f"{sha256}-{len(content)}"):
        _refuse(INTEGRITY, f"the agent archive {archive} is not the one that was sent", "copy or fetch it again")
    folder = cache_folder(environ) / "agents" / sha256
    try:
        unpack(archive, folder)
    except OSError as error:
        _refuse(
            BACKEND, f"the agent cannot be unpacked into {folder}: {error}", "name another folder: KUBEQ_AGENT_CACHE"
        )
    sys.path[0] = str(folder)
    runpy.run_module("kubeq_consumer", run_name="__main__", alter_sys=True)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """The agent's cache, as the agent itself finds it: as told, else where caches are kept here."""
    if environ.get("KUBEQ_AGENT_CACHE"):
        return Path(environ["KUBEQ_AGENT_CACHE"])
    caches = Path(environ.get("XDG_CACHE_HOME", ""))
    return (caches if caches.is_absolute() else Path(environ.get("HOME", "/")) / ".cache") / "kubeq"


def unpack(archive: Path, folder: Path) -> None:
    """Have the archive's files in that folder, whole. Raises OSError, also if somebody else could change them."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_owner(folder.parent)
    with zipfile.ZipFile(archive) as file:
        if _is_whole(file, folder):
            return
        _drop_stale(folder.parent)
        fresh = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        try:
            _extract(file, fresh)
            if folder.exists():
                with suppress(FileNotFoundError):
                    folder.rename(fresh / ".damaged")
            fresh.rename(folder)
        except OSError:
            if not _is_whole(file, folder):  # nobody else was faster
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(folder / ".damaged", ignore_errors=True)


def _check_owner(folder: Path) -> None:
    """Code that others may write is not run."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
        raise PermissionError(f"{folder} does not belong to the agent's user alone")


def _is_whole(file: zipfile.ZipFile, folder: Path) -> bool:
    """Whether every file of the archive lies there as it should, by size and checksum."""
    for entry in file.infolist():
        try:
            content = (folder / entry.filename).read_bytes()
        except OSError:
            return False
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            return False
    return True


def _extract(file: zipfile.ZipFile, folder: Path) -> None:
    for entry in file.infolist():
        path = folder / entry.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.read(entry))
        path.chmod(entry.external_attr >> 16 & 0o777)


def _drop_stale(folder: Path) -> None:
    """Remove what starts that were killed have left half unpacked, or half fetched."""
    for path in folder.glob(".*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > STALE_S:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _refuse(code: int, sentence: str, hint: str) -> NoReturn:
    sys.stderr.write(f"error: {sentence}\nhint: {hint}\n")
    raise SystemExit(code)
