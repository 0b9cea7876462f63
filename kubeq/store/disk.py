"""Durable files and directories, and what the operating system's errors about them mean to a user.

Nothing here knows of keys or blobs.
"""

# Paths are bytes in a store.
# ruff: noqa: PTH102, PTH120

from __future__ import annotations

import ctypes
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kubeq.errors import AccessDenied, BackendError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_TRANSIENT = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
)
"""Out of handles or memory for a moment; a network file system whose server was restarted or did not answer."""


def disk_error(error: OSError, doing: str, path: bytes | Path, wanted: int | None = None) -> BackendError:
    """The error to raise: "could not `doing` `path`: why". `wanted` is the number of bytes that had to fit there."""
    shown = os.fsdecode(path)
    sentence = f"could not {doing} {shown}: {error.strerror or error}"
    if error.errno in _FULL:
        needed = "" if wanted is None else f" ({wanted} bytes were wanted)"
        return BackendError(sentence + needed, hint="free some space there, or choose a directory on another disk")
    if error.errno in _REFUSED:
        return AccessDenied(sentence, hint=f"make {shown} accessible to you, or choose another directory")
    return BackendError(sentence, transient=error.errno in _TRANSIENT)


@contextmanager
def disk_errors(doing: str, path: bytes | Path, wanted: int | None = None) -> Iterator[None]:
    """A block whose OSErrors leave it as BackendErrors."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, doing, path, wanted) from error


def make_directory(path: bytes, *, durable: bool = True) -> None:
    """Have the directory and its parents, for their owner alone; each on the disk if `durable`. Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directory(os.path.dirname(path), durable=durable)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
    if durable:
        sync_directory(os.path.dirname(path))


def sync_directory(path: bytes) -> None:
    """Make the names in it durable, where its file system can; one that vanished has none. Raises BackendError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # EINVAL, EOPNOTSUPP: some network and FUSE file systems make names durable by themselves and cannot be asked.
        # EACCES: a directory above the store in which we may make names, but which we may not open.
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES):
            raise disk_error(error, "write", path) from error


def sync_file_system(path: bytes) -> None:
    """Make everything on the file system of `path` durable; nothing to do if there is no such path."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs"):
            os.sync()  # systems without Linux's syncfs(2)
        elif libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise disk_error(OSError(number, os.strerror(number)), "write", path)
    finally:
        os.close(descriptor)


class Reading(io.FileIO):
    """A file being read; the operating system's errors leave it as BackendErrors."""

    def __init__(self, path: bytes) -> None:
        super().__init__(path, "rb")
        self._shown = path

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with disk_errors("read", self._shown):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with disk_errors("read", self._shown):
            return super().readall()
