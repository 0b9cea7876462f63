"""Writing beneath one directory and nowhere else, whatever names somebody made up.

Every path is a tuple of components, opened one by one relative to directory handles and never through a link. A file
has its name only once all of it is there: it is written under a temporary name in `.kubeq-part`, which tells whose it
is, and renamed. What is written there is decided in `fetch`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.errors import BackendError, Conflict, IntegrityError, KubeqError, UsageError
from kubeq.machine import ProcessMark, has_ended, own_mark

Parts = tuple[str, ...]
PART = ".kubeq-part"
CHUNK = 2**20
_TEMPORARY = re.compile(r"([0-9]+[^/]*)-[0-9]+")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IN_THE_WAY = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Confined:
    """An open directory. Safe to use from several threads, each with walks of its own."""

    def __init__(self, path: Path, root: int, part: int, writer: ProcessMark) -> None:
        self.path = path
        self.root = root
        self.part = part
        self.writer = writer
        self.numbers = count()

    @contextmanager
    def walk(self) -> Iterator[Walk]:
        """A reader and writer of files that remembers the directory it was in last. For one thread."""
        walk = Walk(self)
        try:
            yield walk
        finally:
            walk.leave()


@contextmanager
def open_confined(path: Path) -> Iterator[Confined]:
    """The directory, made if need be. Raises UsageError or BackendError if nothing can be written there."""
    with _Errors(path, ()):
        path.mkdir(parents=True, exist_ok=True)
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileExistsError):
                os.mkdir(PART, 0o700, dir_fd=root)
            part = os.open(PART, _FOLDER, dir_fd=root)
        except BaseException:
            os.close(root)
            raise
    try:
        _sweep(part)
        yield Confined(path, root, part, own_mark())
    finally:
        with suppress(OSError):
            os.rmdir(PART, dir_fd=root)
        os.close(part)
        os.close(root)


class Walk:
    """One thread's way through the directory: consecutive files of one folder open it once."""

    def __init__(self, confined: Confined) -> None:
        self._confined = confined
        self._folder: Parts | None = None
        self._handle = -1
        self._absent: Parts | None = None

    def leave(self) -> None:
        """Close the folder that is open, and forget what was found not to be there."""
        if self._folder:
            os.close(self._handle)
        self._folder = self._absent = None

    def size(self, path: Parts) -> int | None:
        """The size of a regular file; None if there is nothing. Raises Conflict for anything else of that name."""
        with self._errors(path):
            folder = self._enter(path[:-1], make=False)
            if folder is None:
                return None
            try:
                found = os.stat(path[-1], dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(found.st_mode):
            raise Conflict(f"{self._shown(path)} is in the way: it is not a file", hint="move it, or fetch elsewhere")
        return found.st_size

    def digest(self, path: Parts) -> Digest:
        """The digest of a regular file that is there."""
        hasher, size = hashlib.sha256(), 0
        with self._errors(path), self._open(path) as stream:
            while chunk := stream.read(CHUNK):
                hasher.update(chunk)
                size += len(chunk)
        return Digest(hasher.hexdigest(), size)

    def read(self, path: Parts, limit: int) -> bytes | None:
        """The bytes of a regular file; None if there is no such file, or it is longer than `limit`."""
        size = self.size(path)
        if size is None or size > limit:
            return None
        with self._errors(path), self._open(path) as stream:
            return stream.read(limit)

    def write(self, path: Parts, source: BinaryIO, digest: Digest, *, executable: bool = False) -> None:
        """Have the file with those bytes; it appears whole or not at all. Raises IntegrityError for other bytes."""
        received = self._write(path, source, digest.size, digest.sha256, executable)
        if received != digest:
            raise IntegrityError(f"the stored bytes of {self._shown(path)} are not what its record says")

    def write_sized(self, path: Parts, source: BinaryIO, size: int) -> None:
        """The same for bytes of which only the number is on record."""
        if self._write(path, source, size, None, False).size != size:
            raise IntegrityError(f"the stored bytes of {self._shown(path)} are not the {size} on record")

    def remove(self, path: Parts) -> None:
        """Remove a file, and the folders that are empty then, up to the first component."""
        with self._errors(path):
            folder = self._enter(path[:-1], make=False)
            if folder is None:
                return
            with suppress(FileNotFoundError):
                os.unlink(path[-1], dir_fd=folder)
        for depth in range(len(path) - 1, 1, -1):
            parent = self._enter(path[: depth - 1], make=False)
            try:
                os.rmdir(path[depth - 1], dir_fd=parent)
            except OSError:
                return

    def _write(self, path: Parts, source: BinaryIO, size: int, sha256: str | None, executable: bool) -> Digest:
        """The digest of what came; the file has its name only if that is what was announced."""
        part, temporary = self._confined.part, f"{self._confined.writer}-{next(self._confined.numbers)}"
        with self._errors(path, size):
            folder = self._enter(path[:-1], make=True)
            handle = os.open(temporary, _NEW, 0o777 if executable else 0o666, dir_fd=part)
            try:
                try:
                    received = _copy(source, handle, size)
                finally:
                    os.close(handle)
                if received.size == size and sha256 in (None, received.sha256):
                    os.rename(temporary, path[-1], src_dir_fd=part, dst_dir_fd=folder)
                    return received
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=part)
                raise
            os.unlink(temporary, dir_fd=part)
            return received

    def _open(self, path: Parts) -> BinaryIO:
        folder = self._enter(path[:-1], make=False)
        return open(os.open(path[-1], _READ, dir_fd=folder), "rb", buffering=0)

    def _enter(self, folder: Parts, *, make: bool) -> int | None:
        """The handle of the folder; None if it is not there and not to be made. Raises OSError for a link in it."""
        if not folder:
            return self._confined.root
        if folder == self._folder:
            return self._handle
        if folder == self._absent and not make:
            return None
        self.leave()
        handle = self._confined.root
        for place, name in enumerate(folder):
            above = handle
            try:
                handle = _folder(name, above, make)
            finally:
                if place:
                    os.close(above)
            if handle < 0:
                self._absent = folder
                return None
        self._folder, self._handle = folder, handle
        return handle

    def _shown(self, path: Parts) -> str:
        return str(self._confined.path.joinpath(*path))

    def _errors(self, path: Parts, size: int | None = None) -> _Errors:
        return _Errors(self._confined.path, path, size)


def _folder(name: str, above: int, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        if not make:
            return -1
    with suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=above)
    return os.open(name, _FOLDER, dir_fd=above)


def _copy(source: BinaryIO, handle: int, size: int) -> Digest:
    hasher, received = hashlib.sha256(), 0
    while received <= size and (chunk := source.read(CHUNK)):
        hasher.update(chunk)
        received += len(chunk)
        written = os.write(handle, chunk)
        while written < len(chunk):
            written += os.write(handle, memoryview(chunk)[written:])
    return Digest(hasher.hexdigest(), received)


def _sweep(part: int) -> None:
    """Remove what killed processes left there. (A name with a bare pid is of a kubeq that wrote no more than that.)"""
    for name in os.listdir(part):
        match = _TEMPORARY.fullmatch(name)
        writer = ProcessMark.parse(match[1]) if match else None
        if match and (writer is None or has_ended(writer)):
            with suppress(OSError):
                os.unlink(name, dir_fd=part)


class _Errors:
    """A block whose OSErrors leave it as one sentence and a hint. (A class: it is entered several times a file.)"""

    __slots__ = ("_path", "_root", "_size")

    def __init__(self, root: Path, path: Sequence[str], size: int | None = None) -> None:
        self._root = root
        self._path = path
        self._size = size

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise self._translated(error) from error

    def _translated(self, error: OSError) -> KubeqError:
        shown, why = self._root.joinpath(*self._path), error.strerror or str(error)
        failure = f"{shown} could not be written: {why}"
        if error.errno in _FULL:
            wanted = "" if self._size is None else f" ({self._size:,} bytes were wanted)"
            return BackendError(failure + wanted, hint="free some space and fetch again; what is there already is kept")
        if error.errno in _REFUSED:
            return UsageError(failure, hint="name a directory of your own")
        if error.errno in _IN_THE_WAY and not self._path:
            return UsageError(f"{shown} is not a directory", hint="name a directory, or one to be made")
        if error.errno in _IN_THE_WAY:
            return Conflict(
                f"{shown} is in the way: a link, or a file where a directory belongs",
                hint="move it away, or fetch into another directory",
            )
        return BackendError(failure, hint="fetch into another directory")
