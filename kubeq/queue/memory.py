"""The RecordTable in this process's memory: for tests and for trying things. As strict as the tables that last."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from kubeq.core.model import Reach
from kubeq.metering import Meter
from kubeq.queue.base import Change, Cursor, Key, Page, Partition, Row, Standing, Swapped, Tally


class MemoryTable:
    """Rows that live as long as the object. Each call is atomic as a whole."""

    reach: ClassVar[Reach] = Reach.HOST
    batch: ClassVar[int] = 10_000

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Rows] = {}
        self._changed = threading.Condition()
        self._changes = 0
        self._thread = threading.local()
        self._meter = Meter()

    @property
    def requests(self) -> Mapping[str, int]:
        """Its own reads and writes."""
        return self._meter.read()

    def copy(self) -> MemoryTable:
        """Another table with the rows of now."""
        other = MemoryTable()
        with self._changed:
            other._partitions = {partition: rows.copy() for partition, rows in self._partitions.items()}
        return other

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        """None for the rows that stand as given."""
        for row in rows:
            _require_text(*row.key, row.change_id, row.tally or "", row.body)
        with self._writing():
            return [self._insert(row) for row in rows]

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        """One snapshot."""
        with self._reading():
            return [self._rows(key.partition).by_name.get(key.name) for key in keys]

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        """In the order given."""
        for change in changes:
            _require_text(*change.key, change.change_id, change.tally or "", change.body)
        with self._writing():
            return [self._swap(change) for change in changes]

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        """Never stale."""
        with self._reading():
            rows = self._rows(partition)
            start = 0 if after is None else bisect_right(rows.due, (after.claimable_at or 0.0, after.name))
            chosen = rows.due[start : start + limit + 1]
            found = [rows.by_name[name] for at, name in chosen if at <= before]
        return _page(found, limit, due=True)

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        """Names compare by code point, which is the byte order of their UTF-8."""
        with self._reading():
            rows = self._rows(partition)
            start = 0 if after is None else bisect_right(rows.names, after.name)
            found = [rows.by_name[name] for name in rows.names[start : start + limit + 1]]
        return _page(found, limit)

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        """Kept at every change; never stale."""
        with self._reading():
            return dict(self._rows(partition).tallies)

    def delete(self, keys: Sequence[Key]) -> None:
        """Absent rows are no error."""
        with self._writing():
            for key in keys:
                self._changes += self._rows(key.partition).drop(key.name)

    def clock_offset(self) -> float:
        """Always 0: there is one clock."""
        return 0.0

    def wait(self, seconds: float) -> None:
        """Sooner if another thread changed something since this thread's last read or wait."""
        deadline = time.monotonic() + seconds
        with self._changed:
            seen = getattr(self._thread, "seen", self._changes)
            while self._changes == seen and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._thread.seen = self._changes

    def _rows(self, partition: Partition) -> _Rows:
        return self._partitions.get(partition) or self._partitions.setdefault(partition, _Rows())

    def _insert(self, row: Row) -> Row | None:
        rows = self._rows(row.key.partition)
        standing = rows.by_name.get(row.key.name)
        if standing is None:
            rows.put(row)
            self._changes += 1
            return None
        return None if standing.change_id == row.change_id else standing

    def _swap(self, change: Change) -> Swapped | Standing:
        key, version, change_id, tally, claimable_at, body = change
        rows = self._rows(key.partition)
        standing = rows.by_name.get(key.name)
        if standing is not None and standing.version == version:
            row = Row(key, version + 1, change_id, tally, claimable_at, body)
            rows.put(row)
            self._changes += 1
            return Swapped(row)
        if standing is not None and (standing.version, standing.change_id) == (version + 1, change_id):
            return Swapped(standing)
        return Standing(standing)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._meter.count("read")
        with self._changed:
            self._thread.seen = self._changes
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A thread's own changes do not wake it: they move what it has seen along."""
        self._meter.count("write")
        with self._changed:
            before = self._changes
            yield
            if getattr(self._thread, "seen", before) == before:
                self._thread.seen = self._changes
            self._changed.notify_all()


class _Rows:
    """The rows of one partition, with sorted lists in place of indexes."""

    def __init__(self) -> None:
        self.by_name: dict[str, Row] = {}
        self.names: list[str] = []
        self.due: list[tuple[float, str]] = []
        self.tallies: Counter[Tally] = Counter()

    def copy(self) -> _Rows:
        other = _Rows()
        other.by_name, other.names, other.due = dict(self.by_name), list(self.names), list(self.due)
        other.tallies = self.tallies.copy()
        return other

    def put(self, row: Row) -> None:
        """The row in place of the one of its name."""
        self.drop(row.key.name)
        self.by_name[row.key.name] = row
        insort(self.names, row.key.name)
        if row.claimable_at is not None:
            insort(self.due, (row.claimable_at, row.key.name))
        if row.tally is not None:
            self.tallies[row.tally] += 1

    def drop(self, name: str) -> bool:
        """Whether there was a row of that name; there is none any more."""
        row = self.by_name.pop(name, None)
        if row is None:
            return False
        del self.names[bisect_left(self.names, name)]
        if row.claimable_at is not None:
            del self.due[bisect_left(self.due, (row.claimable_at, name))]
        if row.tally is not None:
            self.tallies[row.tally] -= 1
            self.tallies += Counter()  # leaves out what has fallen to 0
        return True


def _page(found: Sequence[Row], limit: int, *, due: bool = False) -> Page:
    """The page of rows that were looked for with one more than it may hold."""
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    return Page(found[:limit], Cursor(last.claimable_at if due else None, last.key.name))


def _require_text(*texts: str) -> None:
    """Raise UnicodeEncodeError for what no other table could store: a lone surrogate."""
    for text in texts:
        text.encode()
