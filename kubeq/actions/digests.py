"""Digests of input files, remembered between submissions, so that an unchanged file is not read again.

A file is known by its path, device, inode, size and times of change; one that changed within the two seconds before it
was hashed is not remembered, because it could change again within the resolution of a file system's clock. The cache
may be deleted at any time, is shared by concurrent processes, and is never needed: where it cannot be used, files are
read.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from kubeq.core.clock import Clock, SystemClock
from kubeq.core.digest import Digest
from kubeq.errors import UsageError
from kubeq.store.blobs import hash_file

SETTLED_NS = 2_000_000_000
"""FAT keeps times in steps of 2 s, the coarsest of the file systems in use."""
MOST_FILES = 500_000
"""Entries kept, the newest; some 200 bytes each."""
_BATCH = 500
"""SQLite takes 999 variables a statement before 3.32 (SQLITE_MAX_VARIABLE_NUMBER)."""
_BUSY_S = 5.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS files_1 (path BLOB NOT NULL UNIQUE, facts TEXT NOT NULL, digest TEXT NOT NULL)"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
Progress = Callable[[int, int], None]
T = TypeVar("T")
logger = logging.getLogger(__name__)


class DigestCache:
    """The digests of files: from the cache at `path` where they stand there, from the files' bytes otherwise."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._usable = True

    def digests_of(
        self, paths: Sequence[Path], *, threads: int, progress: Progress | None = None
    ) -> dict[Path, Digest]:
        """The digest of each distinct path, read in `threads` threads.

        `progress` is told the numbers of files and of bytes done so far, in the calling thread. Raises UsageError for a
        file that cannot be read or changes meanwhile.
        """
        report = progress or (lambda files, size: None)
        facts = {path: _facts(path) for path in paths}
        digests = self._known({path: fact.text for path, fact in facts.items()})
        size = sum(digest.size for digest in digests.values())
        report(len(digests), size)
        started_ns = int(self._clock.now() * 1e9)
        fresh: dict[Path, Digest] = {}
        for path, digest in _hashed([path for path in facts if path not in digests], threads):
            fresh[path] = digest
            size += digest.size
            report(len(digests) + len(fresh), size)
        settled = [path for path in fresh if facts[path].changed_ns <= started_ns - SETTLED_NS]
        self._remember([(_name(path), facts[path].text, str(fresh[path])) for path in settled])
        return {path: digests.get(path) or fresh[path] for path in facts}

    def _known(self, facts: Mapping[Path, str]) -> dict[Path, Digest]:
        names = {_name(path): path for path in facts}

        def read() -> dict[Path, Digest]:
            found = {}
            with closing(self._open()) as database:
                for batch in _batches(list(names), _BATCH):
                    marks = ",".join("?" * len(batch))
                    for name, fact, digest in database.execute(f"SELECT * FROM files_1 WHERE path IN ({marks})", batch):
                        if facts[names[name]] == fact:
                            found[names[name]] = Digest.parse(digest)
            return found

        return self._attempt(read) or {}

    def _remember(self, rows: Sequence[tuple[bytes, str, str]]) -> None:
        def write() -> None:
            with closing(self._open()) as database, database:
                database.executemany("INSERT OR REPLACE INTO files_1 VALUES (?, ?, ?)", rows)
                database.execute(
                    "DELETE FROM files_1 WHERE rowid <= (SELECT max(rowid) FROM files_1) - ?", (MOST_FILES,)
                )

        if rows:
            self._attempt(write)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=_BUSY_S)
        database.execute(_SCHEMA)
        return database

    def _attempt(self, step: Callable[[], T]) -> T | None:
        """What the step gives; None where the cache cannot be used. A damaged cache is made anew, with a warning."""
        if not self._usable:
            return None
        try:
            try:
                return step()
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF not in _DAMAGED:
                    raise
                logger.warning("the cache of digests %s was damaged and is made anew (%s)", self._path, error)
            self._remove()
            return step()
        except (sqlite3.Error, OSError) as error:
            self._usable = False
            logger.info("the cache of digests %s cannot be used: %s", self._path, error)
            return None

    def _remove(self) -> None:
        for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            path.unlink(missing_ok=True)


class _Facts:
    """What a file's content is recognised by, and when that last changed."""

    __slots__ = ("changed_ns", "text")

    def __init__(self, status: os.stat_result) -> None:
        times = (status.st_mtime_ns, status.st_ctime_ns)
        self.changed_ns = max(times)
        self.text = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{times[0]}:{times[1]}"


def _facts(path: Path) -> _Facts:
    try:
        return _Facts(path.stat())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="it was there a moment ago") from error


def _name(path: Path) -> bytes:
    """A path as the system has it: it need not be valid UTF-8."""
    text = str(path)
    return os.fsencode(text if text.startswith("/") else path.absolute())


def _hashed(paths: Sequence[Path], threads: int) -> Iterator[tuple[Path, Digest]]:
    """Paths with their digests, in order. Small sets go file by file, large ones in batches, to spare the queue."""
    batches = list(_batches(paths, 1 if len(paths) < 1000 else 32))
    with ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="hash") as pool:
        for batch, digests in zip(
            batches, pool.map(lambda batch: [hash_file(path) for path in batch], batches), strict=True
        ):
            yield from zip(batch, digests, strict=True)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
