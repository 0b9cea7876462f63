"""Trying a store and a queue for real: every kind of request that jobs depend on, on a probe that nobody else sees.

A probe is a sequence of steps; each raises the backend's own error, or one that says what the backend did wrong.
`clear` removes what a step that failed may have left. How the steps are reported is in `checking`; what a submission
tries beforehand is in `preflight`.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Protocol

from kubeq.core.clock import Clock
from kubeq.core.digest import Digest
from kubeq.errors import BackendError
from kubeq.queue.base import Change, Key, Partition, RecordTable, Row, Standing, Swapped
from kubeq.queue.swaps import insist
from kubeq.store.base import ObjectStore

INDEX_PATIENCE_S = 20.0
"""How long an index may lag behind its table; DynamoDB's and Datastore's take a fraction of a second as a rule."""
INDEX_PAUSE_S = 0.2
WRITTEN, OTHER = b"kubeq was here\n", b"and somebody else\n"

Step = tuple[str, Callable[[], str]]
"""A name, and what does it; the answer is what there is to tell besides that it worked."""


class Probe(Protocol):
    """Steps to be taken in their order, until one raises KubeqError."""

    def steps(self) -> Sequence[Step]: ...

    def clear(self) -> None:
        """Leave nothing behind; never raises."""
        ...


class StoreProbe:
    """A small object, written, read, found, not overwritten and removed."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._key = f"probe/{token_hex(8)}"
        self._stands = False

    def steps(self) -> Sequence[Step]:
        return (
            ("write", self.write),
            ("read", self._read),
            ("list", self._list),
            ("write-once", self._write_once),
            ("delete", self.delete),
        )

    def write(self) -> str:
        """The object stands."""
        self._stands = True
        try:
            made = self._put(WRITTEN)
        except BackendError:
            self._stands = False
            raise
        if not made:
            self._read()  # "it stands already" may be the answer to a second try of our own
        return ""

    def delete(self) -> str:
        """The object is gone."""
        self._store.delete([self._key])
        if self._store.stat([self._key]):
            raise BackendError(f"{self._url} was removed and is still there")
        self._stands = False
        return ""

    def clear(self) -> None:
        if self._stands:  # else a store that does not answer would be waited for a second time
            with suppress(BackendError):
                self._store.delete([self._key])

    def _read(self) -> str:
        with self._store.get(self._key) as stream:
            if stream.read() != WRITTEN:
                raise BackendError(f"{self._url} does not hold what was written into it")
        return ""

    def _list(self) -> str:
        if [stored.size for stored in self._store.list(self._key)] != [len(WRITTEN)]:
            raise BackendError(f"{self._url} is not in the listing of its store")
        return ""

    def _write_once(self) -> str:
        if self._put(OTHER):
            raise BackendError(
                f"{self._url} was overwritten: the service does not keep to 'create only if it does not exist'",
                hint="results of kubeq are not safe there; use S3, Cloud Storage or a directory",
            )
        self._read()
        return ""

    @property
    def _url(self) -> str:
        return f"{self._store.url}/{self._key}"

    def _put(self, content: bytes) -> bool:
        return self._store.put(self._key, lambda: io.BytesIO(content), len(content), Digest.of(content).sha256)


class TableProbe:
    """A row in a partition of its own, made, changed against its version, found by its time, listed and removed."""

    def __init__(self, table: RecordTable, clock: Clock, index_patience_s: float = INDEX_PATIENCE_S) -> None:
        self._table = table
        self._index_patience_s = index_patience_s
        self._clock = clock
        self._key = Key(Partition(f"probe-{token_hex(8)}"), "row")
        self._stands = False

    def steps(self) -> Sequence[Step]:
        return (
            ("insert", self._insert),
            ("swap", self._swap),
            ("due", self._due),
            ("list", self._list),
            ("delete", self._delete),
        )

    def clear(self) -> None:
        if self._stands:
            with suppress(BackendError):
                insist(lambda: self._table.delete([self._key]))

    def _insert(self) -> str:
        mine, other = self._row(token_hex(8)), self._row(token_hex(8))
        self._stands = True
        try:
            answer = insist(lambda: self._table.insert([mine]))
        except BackendError:
            self._stands = False
            raise
        if answer != [None]:
            raise BackendError("the queue refused a row as existing, and nobody has written it")
        standing = insist(lambda: self._table.insert([other]))[0]
        if standing is None or standing.change_id != mine.change_id:
            raise BackendError("the queue let a second row be written over the first")
        return ""

    def _swap(self) -> str:
        first, stale = self._change(token_hex(8)), self._change(token_hex(8))
        if not isinstance(insist(lambda: self._table.swap([first]))[0], Swapped):
            raise BackendError("the queue refused a change of a row that nobody else has changed")
        if not isinstance(insist(lambda: self._table.swap([stale]))[0], Standing):
            raise BackendError("the queue made a change that came too late")
        return ""

    def _due(self) -> str:
        began = time.monotonic()
        while not insist(lambda: self._table.due(self._key.partition, self._clock.now(), None, 1)).rows:
            if time.monotonic() - began > self._index_patience_s:
                raise BackendError(
                    f"the queue's index does not show a row that was written {self._index_patience_s:g} s ago",
                    hint="kubeq setup shows whether the index stands",
                )
            time.sleep(INDEX_PAUSE_S)
        return ""

    def _list(self) -> str:
        rows = insist(lambda: self._table.list(self._key.partition, None, 10)).rows
        if [row.version for row in rows] != [2]:
            raise BackendError("the queue does not list a row as it was written")
        return ""

    def _delete(self) -> str:
        insist(lambda: self._table.delete([self._key]))
        if insist(lambda: self._table.get([self._key])) != [None]:
            raise BackendError("the queue removed a row that is still there")
        self._stands = False
        return ""

    def _row(self, mark: str) -> Row:
        return Row(self._key, 1, mark, None, self._clock.now() - 60.0, "{}")

    def _change(self, mark: str) -> Change:
        return Change(self._key, 1, mark, None, self._clock.now() - 60.0, "{}")
