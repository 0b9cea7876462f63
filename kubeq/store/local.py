"""The object store in a directory of this machine or of a network file system: `<root>/<key>` is the object.

Any tool can browse it. Nothing but the ObjectStore protocol lives here. A put is: write and hash a temporary file,
fsync it, `link` it to its name, fsync the directory (`placing`); a batch does each of these steps for many puts at a
time. An empty directory goes with its last object.
"""

# Paths are bytes here, so that keys are UTF-8 whatever the locale says.
# ruff: noqa: PTH100, PTH106, PTH108, PTH120

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import quote

from kubeq.core.model import Reach
from kubeq.errors import IntegrityError, ObjectNotFound
from kubeq.metering import Meter
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.disk import Reading, disk_error, disk_errors, sync_directory, sync_file_system
from kubeq.store.keys import RESERVED, check_key, is_key
from kubeq.store.placing import Placing, status
from kubeq.store.walking import walk

SETTLE_FILES = 4096
SETTLE_BYTES = 2**28
"""After so much a batch settles before its end, so that an upload which is interrupted does not begin anew."""


class LocalStore:
    """An ObjectStore in the directory `root`, which is made (with mode 0700) by the first put."""

    reach: ClassVar[Reach] = Reach.HOST

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(os.path.abspath(root))
        self._temporary = self._root + b"/" + RESERVED.encode()
        self._placing = Placing(self._temporary, durable=True)
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
        if self._placing.stands(key, final):
            return False
        temporary = self._placing.write(key, open, size, sha256)
        try:
            created = self._placing.link(key, temporary, final)
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
            found = status(self._path(key))
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


class _Batch(LocalStore):
    """The store inside a batch: bytes get their names, many at once, only when they are durable.

    Until then they are temporary files, so nobody can take for stored what a power cut would lose.
    """

    def __init__(self, root: Path, meter: Meter) -> None:
        super().__init__(root)
        self._placing = Placing(self._temporary, durable=False)
        self._meter = meter
        self._turn = threading.Lock()
        self._waiting: list[tuple[str, bytes, int]] = []
        self._waiting_bytes = 0

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """False if it stands; else True, though it is seen only once it is settled."""
        self._meter.count("put")
        if self._placing.stands(key, self._path(key)):
            return False
        temporary = self._placing.write(key, open, size, sha256)
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
                if not self._placing.link(key, temporary, self._path(key)):
                    self._require_size(key, size)
        finally:
            _unlink_all(temporary for _, temporary, _ in waiting)

    def discard(self) -> None:
        """Remove what was not settled."""
        _unlink_all(temporary for _, temporary, _ in self._waiting)

    def _require_size(self, key: str, size: int) -> None:
        found = status(self._path(key))
        if found is not None and found.st_size != size:
            raise IntegrityError(
                f"could not store {key}: meanwhile {found.st_size} bytes were put there, not {size}",
                hint=f"remove {self.url}/{key} and try again",
            )


def _unlink_all(paths: Iterable[bytes]) -> None:
    for path in paths:
        with suppress(OSError):
            os.unlink(path)
