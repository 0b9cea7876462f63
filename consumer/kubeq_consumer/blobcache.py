"""The node's blob cache: inputs that were fetched and verified once, for every attempt on this machine.

Files are read-only, belong to the agent, and are never handed to a task: what a task gets is a copy. A file that does
not match its name any more (size or time of change) is checked again by its hash and fetched anew if it is wrong.
Several agents share the folder. When it outgrows its bound, the files that were used least recently go: the access time
of a file is set at every use, its time of change never. What another agent reads meanwhile keeps its bytes to the end.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kubeq.core.digest import Digest, digest_of_chunks
from kubeq.errors import BackendError
from kubeq.store.blobs import Blobs
from kubeq.store.disk import disk_errors
from kubeq.store.parallel import threads_for

LARGEST = 20 * 10**9
LARGEST_SHARE = 10
"""Unless told otherwise the cache has 20 GB, or a tenth of its file system where that is less."""
KEPT = 0.9
"""So much of the bound is left after an eviction, so that the next input does not cause the next one."""
CHUNK = 2**20
LEFTOVER_AGE_S = 86400.0
"""A download that nobody has written to for a day belongs to an agent that is gone."""
_TRIES = 3
"""How often another agent may evict a file between our fetching and our opening it."""


@dataclass(slots=True)
class _Use:
    """One digest while anybody here wants it."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class _Cached(NamedTuple):
    used_at: float
    size: int
    path: Path


class BlobCache:
    """The cache in a folder, of at most `limit` bytes (None: as the constants say) beyond what is being used.

    Safe to use from several threads and by several agents.
    """

    def __init__(self, root: Path, blobs: Blobs, limit: int | None = None) -> None:
        self._root = root
        self._blobs = blobs
        self._limit = limit
        self._guard = threading.Lock()
        self._trusted: dict[Digest, tuple[int, int]] = {}
        self._uses: dict[Digest, _Use] = {}
        self._size = 0
        self._fetched: int | None = None

    @contextmanager
    def opened(self, digest: Digest, fetch: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
        """An open, unbuffered file with exactly those bytes, fetched if need be; it is not evicted meanwhile.

        What is no blob of the store is got by `fetch`, which has the bytes at a path, verified, or raises.
        Raises ObjectNotFound, IntegrityError, BackendError.
        """
        with self._used(digest) as turn:
            with turn:
                file = self._open(digest, fetch or partial(self._blobs.download, digest))
            with file:
                yield file

    @property
    def threads(self) -> int:
        """How many blobs to fetch at once."""
        return threads_for(self._blobs.reach)

    def holds(self, digest: Digest) -> bool:
        """Whether a file of that name is there; a hint, as it may go at any time."""
        return self._path(digest).exists()

    def adopt(self, path: Path, digest: Digest) -> None:
        """Have that file, of those very bytes and on the same file system, in the cache instead of where it is."""

        def move(place: Path) -> None:
            path.replace(place)

        with self._used(digest) as turn, turn:
            self._fetch(digest, move)

    @contextmanager
    def _used(self, digest: Digest) -> Iterator[threading.Lock]:
        with self._guard:
            use = self._uses.setdefault(digest, _Use())
            use.users += 1
        try:
            yield use.turn
        finally:
            with self._guard:
                use.users -= 1
                if not use.users:
                    del self._uses[digest]

    def _path(self, digest: Digest) -> Path:
        return self._root / digest.sha256[:2] / str(digest)

    def _open(self, digest: Digest, fetch: Callable[[Path], None]) -> BinaryIO:
        for _ in range(_TRIES):
            file = self._open_sound(digest, self._path(digest))
            if file is not None:
                return file
            self._fetch(digest, fetch)
        raise BackendError(f"the input {digest} keeps vanishing from the cache {self._root}", transient=True)

    def _open_sound(self, digest: Digest, path: Path) -> BinaryIO | None:
        """The cached file if it is what its name says: by its marks if checked before, else by its hash."""
        with disk_errors("read", path):
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                return None
            try:
                if self._is_sound(digest, file):
                    os.utime(file.fileno(), ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
                    return file
                path.unlink(missing_ok=True)
            except BaseException:
                file.close()
                raise
            file.close()
        return None

    def _is_sound(self, digest: Digest, file: BinaryIO) -> bool:
        status = os.fstat(file.fileno())
        marks = (status.st_mtime_ns, status.st_ino)
        if status.st_size != digest.size:
            return False
        if self._trusted.get(digest) == marks:
            return True
        if digest_of_chunks(iter(lambda: file.read(CHUNK), b"")) != digest:
            return False
        file.seek(0)
        with self._guard:
            self._trusted[digest] = marks
        return True

    def _fetch(self, digest: Digest, fetch: Callable[[Path], None]) -> None:
        path = self._path(digest)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fetch(path)
            path.chmod(0o400)
            status = path.lstat()
        except FileNotFoundError:
            return  # another agent has evicted it at once
        except OSError as error:
            raise BackendError(
                f"the input {digest} cannot be cached in {self._root}: {os.strerror(error.errno or 0)}", transient=True
            ) from error
        with self._guard, disk_errors("read", self._root):
            self._trusted[digest] = (status.st_mtime_ns, status.st_ino)
            self._make_room(digest.size)

    def _make_room(self, added: int) -> None:
        """Evict if the cache may have outgrown its bound; the folder is read when that may be so, and now and then."""
        if self._limit is None:
            self._limit = min(LARGEST, shutil.disk_usage(self._root).total // LARGEST_SHARE)
        if self._fetched is not None:
            self._fetched += added
            if self._size + self._fetched <= self._limit and self._fetched <= self._limit // LARGEST_SHARE:
                return
        cached = self._list()
        self._size, self._fetched = sum(each.size for each in cached), 0
        self._trusted = {digest: self._trusted[digest] for digest in self._trusted.keys() & _digests(cached)}
        if self._size > self._limit:
            self._evict(sorted(cached), int(KEPT * self._limit))

    def _evict(self, cached: list[_Cached], wanted: int) -> None:
        """Remove the least recently used of those that nobody here uses until no more than `wanted` bytes are left."""
        used = {str(digest) for digest in self._uses}
        for _, size, path in cached:
            if self._size <= wanted:
                return
            if path.name not in used:
                with suppress(OSError):
                    path.unlink()
                self._size -= size

    def _list(self) -> list[_Cached]:
        """Every cached file. Downloads under way are none; those that a dead agent left are removed."""
        found: list[_Cached] = []
        for path in self._root.glob("*/*"):
            with suppress(OSError):
                status = path.lstat()
                if not path.name.startswith("."):
                    found.append(_Cached(status.st_atime, status.st_size, path))
                elif time.time() - status.st_mtime > LEFTOVER_AGE_S:
                    path.unlink()
        return found


def _digests(cached: list[_Cached]) -> set[Digest]:
    digests = set()
    for each in cached:
        with suppress(ValueError):
            digests.add(Digest.parse(each.path.name))
    return digests
