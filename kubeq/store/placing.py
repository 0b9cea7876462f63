"""How bytes come to stand under a name in a directory: a temporary file, written and hashed, then linked to its name.

A link never overwrites, and nothing is seen under its name before it is whole. What a key is, and when a batch settles,
is the store's (`local`).
"""

# Paths are bytes here, so that keys are UTF-8 whatever the locale says.
# ruff: noqa: PTH108, PTH116, PTH120

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.errors import BackendError
from kubeq.store.copying import copy_hashed, not_as_announced
from kubeq.store.disk import disk_error, disk_errors, make_directory, sync_directory

LEFTOVER_AGE_S = 86400.0
"""A temporary file that nobody has written to for a day belongs to a process that is gone."""
_LINK_TRIES = 10
"""How often a directory may vanish (somebody deletes its last object) between being made and being used."""
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK})


class Placing:
    """Writes temporary files in the directory `temporary` and links them to their names, on the same file system.

    With `durable` each step is on the disk when it returns; without, whoever places many syncs the file system.
    """

    def __init__(self, temporary: bytes, *, durable: bool) -> None:
        self._temporary = temporary
        self._durable = durable
        self._sweeping = threading.Lock()
        self._swept = False

    def stands(self, key: str, final: bytes) -> bool:
        """Whether the object of that key is there, and its name will be after a power cut too."""
        found = status(final)
        if found is None:
            return False
        if stat.S_ISDIR(found.st_mode):
            raise ValueError(f"the key {key!r} is the directory of another key")
        if self._durable:  # its writer may not have come to that yet, and we rely on it
            sync_directory(os.path.dirname(final))
        return True

    def write(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bytes:
        """The path of a temporary file with those bytes; what `open` and its stream raise passes through.

        Raises IntegrityError if they are other bytes than announced, BackendError.
        """
        descriptor, temporary = self._create()
        try:
            with open() as source:
                copied = copy_hashed(source, descriptor, temporary, size, durable=self._durable, write_back=True)
            if copied != Digest(sha256, size):
                raise not_as_announced(key, size, sha256)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        return temporary

    def link(self, key: str, temporary: bytes, final: bytes) -> bool:
        """Give the file its name; False if another one stands there. The temporary name is left to the caller."""
        for _ in range(_LINK_TRIES):
            try:
                os.link(temporary, final)
                return True
            except FileExistsError:
                # NFS: the answer to a link that was made can get lost, and its repetition then finds our own name.
                if (found := status(temporary)) is not None and found.st_nlink > 1:
                    return True
                return not self.stands(key, final) and self.link(key, temporary, final)
            except FileNotFoundError:
                with disk_errors("create", os.path.dirname(final)), suppress(FileNotFoundError):
                    make_directory(os.path.dirname(final), durable=self._durable)
            except NotADirectoryError:
                raise ValueError(f"the key {key!r} is below another key") from None
            except OSError as error:
                raise _no_link(error, final) from error
        raise BackendError(f"could not write {os.fsdecode(final)}: its directory keeps vanishing", transient=True)

    def _create(self) -> tuple[int, bytes]:
        path = self._temporary + f"/{os.getpid()}-{secrets.token_hex(8)}".encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with disk_errors("write", path):
            try:
                # Read-only, so that nobody edits a stored object by accident.
                descriptor = os.open(path, flags, 0o444)
            except FileNotFoundError:
                make_directory(self._temporary)
                descriptor = os.open(path, flags, 0o444)
        if not self._swept:
            self._sweep(os.fstat(descriptor).st_mtime)
        return descriptor, path

    def _sweep(self, now: float) -> None:
        """Remove what dead processes left. `now` is by the file system's clock, which dates the leftovers too."""
        with self._sweeping, suppress(OSError):
            if self._swept:
                return
            self._swept = True
            for entry in os.scandir(self._temporary):
                with suppress(OSError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > LEFTOVER_AGE_S:
                        os.unlink(entry.path)


def status(path: bytes) -> os.stat_result | None:
    """What is there; None for nothing. Raises BackendError."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise disk_error(error, "read", path) from error


def _no_link(error: OSError, final: bytes) -> BackendError:
    if error.errno not in _NO_LINKS:
        return disk_error(error, "write", final)
    return BackendError(
        f"could not write {os.fsdecode(final)}: hard links cannot be made there ({error.strerror})",
        hint="put the store on one file system that has hard links",
    )
