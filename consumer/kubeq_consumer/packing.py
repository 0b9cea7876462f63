"""A directory of a task as one archive, and back: files, directories and links, and nothing else.

No link is followed on either way: what a task wrote is never trusted. Owners are not kept; times are, so that the same
content is the same bytes.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kubeq.errors import IntegrityError


def pack(folder: Path, archive: Path) -> bool:
    """Write what is in the folder into the archive; False, and no archive, if there is nothing. Raises OSError."""
    entries = sorted(_entries(folder, ""))
    if not entries:
        return False
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in entries:
            _add(tar, folder / name, name)
    return True


def unpack(archive: Path, folder: Path) -> None:
    """Have in the folder, which is empty, what is in the archive. Raises IntegrityError, OSError."""
    links: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(archive, "r") as tar:
            for member in tar:
                place = _place(folder, member)
                if member.issym():
                    links.append(member)
                elif member.isdir():
                    place.mkdir(exist_ok=True)
                elif member.isreg() and (content := tar.extractfile(member)) is not None:
                    _write(place, member, content)
    except (tarfile.TarError, EOFError) as error:
        raise IntegrityError(f"the archive {archive.name} cannot be unpacked: {error}") from error
    for link in links:  # last, so that nothing is written through one
        _place(folder, link).symlink_to(link.linkname)


def _entries(folder: Path, below: str) -> Iterator[str]:
    with os.scandir(folder / below) as found:
        for entry in found:
            name = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield name
                yield from _entries(folder, f"{name}/")
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                yield name


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    status = path.lstat()
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = status.st_mode & 0o777, status.st_mtime
    if path.is_symlink():
        member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        tar.addfile(member)
    elif path.is_dir():
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    else:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as content:
            member.size = os.fstat(content.fileno()).st_size
            tar.addfile(member, content)


def _place(folder: Path, member: tarfile.TarInfo) -> Path:
    parts = member.name.split("/")
    if not all(parts) or {".", ".."} & set(parts):
        raise IntegrityError(f"the archive holds {member.name!r}, which would be elsewhere")
    return folder / member.name


def _write(place: Path, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    with place.open("xb") as file:
        while piece := content.read(2**20):
            file.write(piece)
    place.chmod(member.mode & 0o777)
    os.utime(place, (member.mtime, member.mtime))
