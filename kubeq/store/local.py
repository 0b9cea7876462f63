"""The object store in a directory of this machine or of a network file system: `<root>/<key>` is the object.

Any tool can browse it. Nothing but the ObjectStore protocol lives here. A put is: write and hash a temporary file,
fsync it, `link` it to its name (which never overwrites), fsync the directory; a batch does each of these steps for many
puts at a time. An empty directory goes with its last object.
"""

# Paths are bytes here, so that keys are UTF-8 whatever the locale says.
# ruff: noqa: PTH100, PTH106, PTH108, PTH116, PTH120

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import quote

from kubeq.core.digest import Digest
from kubeq.core.model import Reach
from kubeq.errors import BackendError, IntegrityError, ObjectNotFound
from kubeq.metering import Meter
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.copying import copy_hashed, not_as_announced
from kubeq.store.disk import Reading, disk_error, disk_errors, make_directory, sync_directory, sync_file_system
from kubeq.store.keys import RESERVED, check_key, is_key
from kubeq.store.walking import walk

LEFTOVER_AGE_S = 86400.0
"""A temporary file that nobody has written to for a day belongs to a process that is gone."""
SETTLE_FILES = 4096
SETTLE_BYTES = 2**28
"""After so much a batch settles before its end, so that an upload which is interrupted does not begin anew."""
_LINK_TRIES = 10
"""How often a directory may vanish (somebody deletes its last object) between being made and being used."""
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK})


class LocalStore:
    """An ObjectStore in the directory `root`, which is made (with mode 0700) by the first put."""

    reach: ClassVar[Reach] = Reach.HOST

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(os.path.abspath(root))
        self._temporary = self._root + b"/" + RESERVED.encode()
        self._sweeping = threading.Lock()
        self._swept = False
        self._meter = Meter()

    @property
    def url(self) -> str:
        """`file://` and the absolute path, percent-encoded."""
        return "file://" + quote(self._root)

    @property
    def requests(self) -> Mapping[str, int]:
        """Its own calls."""
        return self._meter.read()

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """True if the object was created; see ObjectStore. What `open` and its stream raise passes through."""
        self._meter.count("put")
        final = self._path(key)
        if self._stands(key, final):
            return False
        temporary = self._write(key, open, size, sha256, durable=True)
        try:
            created = self._link(key, temporary, final)
        finally:
            with suppress(OSError):
                os.unlink(temporary)
        sync_directory(os.path.dirname(final))
        return created

    @contextmanager
    def batch(self) -> Iterator[ObjectStore]:
        """A store of the same directory that makes many puts durable at a time; see ObjectStore.

        Two syncs of the whole file system for a thousand small files cost what a handful of fsyncs cost. If the block
        raises, what was not linked yet is removed.
        """
        batch = _Batch(Path(os.fsdecode(self._root)), self._meter)
        try:
            yield batch
            batch.settle()
        finally:
            batch.discard()
        sync_file_system(self._root)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes from `start` on; see ObjectStore."""
        self._meter.count("get")
        path = self._path(key)
        try:
            stream = Reading(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectNotFound(f"the store {self.url} holds no {key}") from None
        except OSError as error:
            raise disk_error(error, "read", path) from error
        stream.seek(start)
        return io.BufferedReader(stream)

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those that exist."""
        self._meter.count("stat")
        sizes: dict[str, int] = {}
        for key in keys:
            found = self._status(self._path(key))
            if found is not None and stat.S_ISREG(found.st_mode):
                sizes[key] = found.st_size
        return sizes

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """What starts with `prefix` and is greater than `after`; a directory is read when the walk comes to it."""
        self._meter.count("list")
        directory = prefix.rpartition("/")[0]
        if directory and not is_key(directory):
            return iter(())
        start = f"{directory}/".encode() if directory else b""
        return walk(self._root, start, prefix.encode(errors="surrogatepass"), after.encode(errors="surrogatepass"))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove them and the directories they leave empty; absent keys are no error."""
        self._meter.count("delete")
        directories: set[bytes] = set()
        for key in keys:
            path = self._path(key)
            with disk_errors("delete", path), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                os.unlink(path)
            directories.add(os.path.dirname(path))
        for directory in directories:
            with suppress(OSError):
                while len(directory) > len(self._root):
                    os.rmdir(directory)
                    directory = os.path.dirname(directory)

    def _path(self, key: str) -> bytes:
        check_key(key)
        return self._root + b"/" + key.encode()

    def _status(self, path: bytes) -> os.stat_result | None:
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_error(error, "read", path) from error

    def _stands(self, key: str, final: bytes) -> bool:
        found = self._status(final)
        if found is None:
            return False
        if stat.S_ISDIR(found.st_mode):
            raise ValueError(f"the key {key!r} is the directory of another key")
        self._sync_name(final)
        return True

    def _sync_name(self, final: bytes) -> None:
        """Make the name of a standing object durable: its writer may not have come to that yet, and we rely on it."""
        sync_directory(os.path.dirname(final))

    def _write(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str, *, durable: bool) -> bytes:
        descriptor, temporary = self._create_temporary()
        try:
            with open() as source:
                copied = copy_hashed(source, descriptor, temporary, size, durable=durable, write_back=True)
            if copied != Digest(sha256, size):
                raise not_as_announced(key, size, sha256)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        return temporary

    def _create_temporary(self) -> tuple[int, bytes]:
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

    def _link(self, key: str, temporary: bytes, final: bytes) -> bool:
        for _ in range(_LINK_TRIES):
            try:
                os.link(temporary, final)
                return True
            except FileExistsError:
                # NFS: the answer to a link that was made can get lost, and its repetition then finds our own name.
                if (found := self._status(temporary)) is not None and found.st_nlink > 1:
                    return True
                return not self._stands(key, final) and self._link(key, temporary, final)
            except FileNotFoundError:
                with disk_errors("create", os.path.dirname(final)), suppress(FileNotFoundError):
                    self._make_parent(final)
            except NotADirectoryError:
                raise ValueError(f"the key {key!r} is below another key") from None
            except OSError as error:
                raise self._no_link(error, final) from error
        raise BackendError(f"could not write {os.fsdecode(final)}: its directory keeps vanishing", transient=True)

    def _make_parent(self, final: bytes) -> None:
        make_directory(os.path.dirname(final))

    def _no_link(self, error: OSError, final: bytes) -> BackendError:
        if error.errno not in _NO_LINKS:
            return disk_error(error, "write", final)
        return BackendError(
            f"could not write {os.fsdecode(final)}: hard links cannot be made there ({error.strerror})",
            hint="put the store on one file system that has hard links",
        )


class _Batch(LocalStore):
    """The store inside a batch: bytes get their names, many at once, only when they are durable.

    Until then they are temporary files, so nobody can take for stored what a power cut would lose.
    """

    def __init__(self, root: Path, meter: Meter) -> None:
        super().__init__(root)
        self._meter = meter
        self._turn = threading.Lock()
        self._waiting: list[tuple[str, bytes, int]] = []
        self._waiting_bytes = 0

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """False if it stands; else True, though it is seen only once it is settled."""
        self._meter.count("put")
        if self._stands(key, self._path(key)):
            return False
        temporary = self._write(key, open, size, sha256, durable=False)
        with self._turn:
            self._waiting.append((key, temporary, size))
            self._waiting_bytes += size
            many = len(self._waiting) >= SETTLE_FILES or self._waiting_bytes >= SETTLE_BYTES
        if many:
            self.settle()
        return True

    def settle(self) -> None:
        """Make durable what waits, then link it. Raises IntegrityError where something of another size stands now."""
        with self._turn:
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        try:
            if waiting:
                sync_file_system(self._temporary)
            for key, temporary, size in waiting:
                if not self._link(key, temporary, self._path(key)):
                    self._require_size(key, size)
        finally:
            _unlink_all(temporary for _, temporary, _ in waiting)

    def discard(self) -> None:
        """Remove what was not settled."""
        _unlink_all(temporary for _, temporary, _ in self._waiting)

    def _require_size(self, key: str, size: int) -> None:
        found = self._status(self._path(key))
        if found is not None and found.st_size != size:
            raise IntegrityError(
                f"could not store {key}: meanwhile {found.st_size} bytes were put there, not {size}",
                hint=f"remove {self.url}/{key} and try again",
            )

    def _sync_name(self, final: bytes) -> None:
        """Left to the sync at the end of the batch."""

    def _make_parent(self, final: bytes) -> None:
        make_directory(os.path.dirname(final), durable=False)


def _unlink_all(paths: Iterable[bytes]) -> None:
    for path in paths:
        with suppress(OSError):
            os.unlink(path)
