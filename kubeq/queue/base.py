"""The RecordTable protocol: versioned rows. All that a queue backend implements; it knows no states.

Jobs, tasks, pools and nodes are rows of one table. `claimable_at` makes the claim cheap everywhere: one range over one
sparse index finds new, backed-off and orphaned work alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, NewType, Protocol

from kubeq.core.model import Reach

Partition = NewType("Partition", str)
Tally = NewType("Tally", str)

LARGE = "job/"
"""Partitions that begin so hold the tasks of a job: up to millions of rows, thousands of changes a second. A backend
may lay them out in another way than the rest, which are small; every call takes both."""


class Key(NamedTuple):
    """A row's name: rows of one partition are listed together, in byte order of `name`."""

    partition: Partition
    name: str


class Row(NamedTuple):
    """One versioned row. `version` starts at 1 and grows by one with every swap.

    `change_id` is the random mark of the write that made this version. `tally` is what `count` counts by (None: not
    counted), `claimable_at` what `due` orders by (None: not in that index), `body` opaque JSON text.
    (Named tuples and not dataclasses: a submission makes a million of them.)
    """

    key: Key
    version: int
    change_id: str
    tally: Tally | None
    claimable_at: float | None
    body: str


class Change(NamedTuple):
    """A compare-and-swap: if the row stands at `version`, it becomes `version + 1` with these contents."""

    key: Key
    version: int
    change_id: str
    tally: Tally | None
    claimable_at: float | None
    body: str


class Swapped(NamedTuple):
    """The change was made (now, or before by this very change whose answer was lost)."""

    row: Row


class Standing(NamedTuple):
    """The change was not made: this is the row that stands there, None if there is none."""

    row: Row | None


class Cursor(NamedTuple):
    """Where the next page begins: opaque to callers."""

    claimable_at: float | None
    name: str


class Page(NamedTuple):
    """Some rows, and where to go on; `after` None means that this was the last page."""

    rows: Sequence[Row]
    after: Cursor | None


class RecordTable(Protocol):
    """Versioned rows. Safe to use from several threads. Every call may raise BackendError."""

    reach: ClassVar[Reach]
    batch: ClassVar[int]
    """How many rows one call of `insert`, `get`, `swap` or `delete` may carry; each documents its service requests."""

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests it has made so far, by the service's own name for each kind (SQLite: transactions)."""
        ...

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        """Create-only: None where the row now stands as given (also when it did so before with the same `change_id`),
        else the row that stands there. Each row is atomic; the batch as a whole may be cut short by an error.
        Idempotent by `change_id`.
        """
        ...

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        """The rows, strongly consistent; None for those that do not exist."""
        ...

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        """Each change atomic by itself; a loser gets the row that stands. Idempotent by `change_id`."""
        ...

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        """Rows with `claimable_at <= before`, by (claimable_at, name). May be stale: a hint, never a proof."""
        ...

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        """Rows in byte order of their names; strongly consistent."""
        ...

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        """How many rows of the partition have each tally; may be stale unless `consistent`."""
        ...

    def delete(self, keys: Sequence[Key]) -> None:
        """Remove them; absent rows are no error."""
        ...

    def clock_offset(self) -> float:
        """Seconds to add to this machine's clock to get the backend's, from its latest answer; 0 on one machine."""
        ...

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or sooner if the table has changed since the last call of any method of this object.

        Makes no request; a backend that cannot know simply sleeps.
        """
        ...
