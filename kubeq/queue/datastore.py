"""The RecordTable in Google's Datastore (Firestore in Datastore mode): for any number of machines, no server to run.

Each row is one entity. A write is a mutation that the service refuses when somebody was there before: an insert where
an entity stands, an update where another version stands than the one that was read. They go in commits without a
transaction, each atomic by itself. A commit that fails, or whose answer is lost, says nothing of its mutations, so the
rows are read again: a row with our `change_id` is ours, a missing or unchanged one is tried again, any other has won.
Reads and queries are strongly consistent, as they are in Firestore in Datastore mode unless asked not to be.

Service requests a call (a row that is 1 MiB large counts for many):

insert   1 Commit for 500 rows; where some stand already 1 Lookup for 1,000 and 1 Commit more
get      1 Lookup for 1,000 rows
swap     1 Commit for 500 rows that this object has read or written before; else a Lookup for 1,000 first; after a loss
         1 Lookup, and 1 Commit for those that have not lost
due      small partitions: 1 RunQuery; a job's tasks: 1 RunQuery for each of 8 shards, billed as one entity read each
list     whatever it finds, and 1 Lookup for 1,000 rows found
count    1 RunQuery and 1 RunAggregationQuery a tally, billed as one entity read for 1,000 rows, and 1 RunQuery more
delete   1 Commit for 500 rows
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isqrt
from typing import ClassVar

from kubeq.core.model import Reach
from kubeq.metering import Meter
from kubeq.queue.base import Change, Cursor, Key, Page, Partition, Row, Standing, Swapped, Tally
from kubeq.queue.datastore_entities import Message, Place, changed, entity_of, name_of, removal, row_of, text_of
from kubeq.queue.datastore_queries import (
    Line,
    all_of,
    cursor_of,
    dues,
    index_only,
    line_of,
    listings,
    next_tally,
    tally_of,
)
from kubeq.queue.datastore_requests import PARALLEL, Requests
from kubeq.queue.datastore_writing import COMMIT_ROWS, Versions, Wish, Writer
from kubeq.queue.patience import Patience


class DatastoreTable:
    """The rows in one namespace of a database. Nothing is connected before the first call."""

    reach: ClassVar[Reach] = Reach.NETWORK
    batch: ClassVar[int] = PARALLEL * COMMIT_ROWS
    """As many commits as go at the same time."""

    def __init__(self, place: Place, *, patience: Patience | None = None) -> None:
        patience = patience or Patience()
        self.place = place
        self._meter = Meter()
        self._versions = Versions()
        self._requests = Requests(place, self._meter, patience)
        self._writer = Writer(self._requests, self._versions, patience.sleep)

    @property
    def requests(self) -> Mapping[str, int]:
        """By the service's names: Lookup, RunQuery, RunAggregationQuery, Commit."""
        return self._meter.read()

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        """Each row by itself. Raises BackendError before anything is written if one is larger than an entity may be."""
        wishes = [Wish(name_of(row.key), row, entity_of(row, self.place), None) for row in rows]
        return [None if isinstance(answer, Swapped) else answer.row for answer in self._writer.write(wishes)]

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Each as it stood at some moment of the call."""
        names = [name_of(key) for key in keys]
        rows = {name: self._row(result) for name, result in self._requests.lookup(names).items()}
        return [rows.get(name) for name in names]

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        """Each change by itself; raises as `insert` does."""
        rows = [changed(change) for change in changes]
        return self._writer.write(
            [
                Wish(name_of(row.key), row, entity_of(row, self.place), change.version)
                for row, change in zip(rows, changes, strict=True)
            ]
        )

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        """Of a moment of the call; rows that changed since are left out. A page may be shorter than it could be."""
        return self._page(lambda cursor: dues(partition, before, cursor, self.place), after, limit)

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        """Everything that was written before the call. A page may be shorter than it could be."""
        return self._page(lambda cursor: listings(partition, cursor, self.place), after, limit)

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        """All of one moment of the call, so never stale."""
        found = self._requests.query(next_tally(partition, "", self.place), 1)
        now = found.read_at
        tallies: list[str] = []
        while found.results:
            tallies.append(text_of(found.results[0].entity, "tally"))
            found = self._requests.query(next_tally(partition, tallies[-1], self.place), 1, now)
        counts = self._requests.together(
            [partial(self._requests.count, all_of(tally, self.place), now) for tally in tallies]
        )
        return {tally_of(tally): count for tally, count in zip(tallies, counts, strict=True)}

    def delete(self, keys: Sequence[Key]) -> None:
        """Each row by itself."""
        removals = [removal(name, self.place) for name in dict.fromkeys(map(name_of, keys))]
        runs = [removals[start : start + COMMIT_ROWS] for start in range(0, len(removals), COMMIT_ROWS)]
        self._requests.together([partial(self._requests.remove, run) for run in runs])

    def clock_offset(self) -> float:
        """By the times that answers tell, to within the shortest round trip; 0 before the first."""
        return self._requests.offset.seconds()

    def wait(self, seconds: float) -> None:
        """Always as long as that: Datastore tells nobody of changes."""
        time.sleep(seconds)

    def _page(self, walk: Callable[[Cursor | None], Sequence[Message]], after: Cursor | None, limit: int) -> Page:
        """The rows of a page of the walk's queries, one a shard, merged."""
        while True:
            queries = walk(after)
            lines, results, more = self._lines(queries, limit)
            if len(queries) > 1:
                results = self._requests.lookup([line.name for line in lines])
            rows = [
                self._row(results[line.name])
                for line in lines
                if line.name in results and line_of(results[line.name].entity, queries[0]) == line
            ]
            after = cursor_of(lines[-1]) if more else None
            if rows or after is None:
                return Page(rows, after)

    def _lines(self, queries: Sequence[Message], limit: int) -> tuple[Sequence[Line], Mapping[str, Message], bool]:
        """The first lines that the queries find together, what they found by name, and whether there is more.

        Hashed names spread evenly, so a shard is asked for its part and four standard deviations. If one has more, the
        lines end where its answer does, since what follows may be its own.
        """
        part = limit // len(queries)
        most = limit + 1 if len(queries) == 1 else min(limit + 1, part + 4 * isqrt(part) + 8)
        if len(queries) > 1:
            queries = [index_only(query) for query in queries]
        answers = self._requests.together([partial(self._requests.query, query, most) for query in queries])
        shards = [[line_of(result.entity, queries[0]) for result in found.results] for found in answers]
        end = min((lines[-1] for lines in shards if len(lines) == most), default=None)
        merged = sorted(line for lines in shards for line in lines if end is None or line <= end)
        results = {result.entity.key.path[0].name: result for found in answers for result in found.results}
        return merged[:limit], results, end is not None or len(merged) > limit

    def _row(self, result: Message) -> Row:
        """The row that was found, its version on the server remembered."""
        row = row_of(result.entity)
        self._versions.remember(result.entity.key.path[0].name, row.version, result.version)
        return row
