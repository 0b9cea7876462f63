"""How rows are written to Datastore so that of all who want to, exactly one does, and learns of it. Nothing reads here
but to find out what became of a write.

A commit that fails names neither the mutation that lost nor those that were made all the same, and of one whose answer
is lost nothing is known at all. So the rows are looked up: one with our `change_id` is ours, one that is missing or
unchanged is tried again in smaller commits, of which fewer have a loser among them, and any other has won.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from kubeq.errors import BackendError
from kubeq.queue.base import Row, Standing, Swapped
from kubeq.queue.datastore_entities import Message, insertion, replacement, row_of
from kubeq.queue.datastore_requests import Requests

COMMIT_ROWS = 500
"""In one commit: the service's limit until 2023, and still what its client libraries keep to."""
COMMIT_BYTES = 9_000_000
"""In one commit: a request may have 10 MiB (https://cloud.google.com/datastore/docs/concepts/limits, May 2026)."""
SMALLER = 4
ROUNDS = 12
"""Lost commits in a row before giving up; from the fifth on each row is by itself, and every loss is another's win."""
PAUSE_S = 0.02
KNOWN = 20_000
"""Rows of which the server's versions are kept: some 6 MB, and more than an agent ever holds or looks at."""


class Versions:
    """The server's version of rows that were seen lately, so that a swap need not read what its caller has just read.

    One that is out of date does no harm: the server refuses the write, and the row is looked up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def remember(self, name: str, version: int, server: int) -> None:
        """That a row's version is the server's."""
        with self._lock:
            self._known[name] = (version, server)
            self._known.move_to_end(name)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def find(self, name: str, version: int) -> int | None:
        """The server's for a row's version, if that is the one that was seen last."""
        with self._lock:
            seen = self._known.get(name)
        return seen[1] if seen is not None and seen[0] == version else None


class Wish(NamedTuple):
    """A row to write in the place of its version `since`, or, with None, where there is none."""

    name: str
    row: Row
    entity: Message
    since: int | None


class _Ready(NamedTuple):
    """A wish, and the server's version to write over, 0 for none. What others learn meanwhile does not change it: a
    change of a row must never become its making.
    """

    wish: Wish
    base: int

    def mutation(self) -> Message:
        return replacement(self.wish.entity, self.base) if self.base else insertion(self.wish.entity)


class Writer:
    """Writes rows of one table. Safe to use from several threads."""

    def __init__(self, requests: Requests, versions: Versions, sleep: Callable[[float], None]) -> None:
        self._requests = requests
        self._versions = versions
        self._sleep = sleep

    def write(self, wishes: Sequence[Wish]) -> Sequence[Swapped | Standing]:
        """Each wish come true, or the row that stands instead. Safe to repeat with the same `change_id`s."""
        answers: dict[int, Swapped | Standing] = {}
        size = COMMIT_ROWS
        bases = {place: self._base(wish) for place, wish in enumerate(wishes)}
        ready = {place: _Ready(wishes[place], base) for place, base in bases.items() if base is not None}
        for attempt in range(ROUNDS):
            if ready and not self._commit(ready, size, answers):
                size = max(1, size // SMALLER)
            left = {place: wish for place, wish in enumerate(wishes) if place not in answers}
            if not left:
                return [answers[place] for place in range(len(wishes))]
            if attempt > 1:
                self._sleep(random.uniform(0, PAUSE_S * 2**attempt))
            ready = self._look(left, answers)
        raise BackendError("rows changed faster than they could be written to Datastore", transient=True)

    def _commit(self, ready: dict[int, _Ready], size: int, answers: dict[int, Swapped | Standing]) -> bool:
        """Try them, of each row only the first; False if a commit has failed."""
        firsts = {each.wish.name: place for place, each in reversed(ready.items())}
        commits = list(_runs([(place, ready[place]) for place in sorted(firsts.values())], size))
        outcomes = self._requests.together(
            [partial(self._requests.write, [each.mutation() for _, each in run]) for run in commits]
        )
        for run, versions in zip(commits, outcomes, strict=True):
            for (place, (wish, _)), version in zip(run, versions or (), strict=versions is not None):
                self._versions.remember(wish.name, wish.row.version, version)
                answers[place] = Swapped(wish.row)
        return all(versions is not None for versions in outcomes)

    def _look(self, wishes: dict[int, Wish], answers: dict[int, Swapped | Standing]) -> dict[int, _Ready]:
        """What has become of them; those that are still to be tried."""
        found = self._requests.lookup([wish.name for wish in wishes.values()])
        open_ones: dict[int, _Ready] = {}
        for place, wish in wishes.items():
            row = None
            if wish.name in found:
                row = row_of(found[wish.name].entity)
                self._versions.remember(wish.name, row.version, found[wish.name].version)
            if row is not None and (row.version, row.change_id) == (wish.row.version, wish.row.change_id):
                answers[place] = Swapped(row)
            elif wish.since == (None if row is None else row.version):
                open_ones[place] = _Ready(wish, 0 if row is None else found[wish.name].version)
            else:
                answers[place] = Standing(row)
        return open_ones

    def _base(self, wish: Wish) -> int | None:
        """The server's version to write over, 0 for none; None if it is not known."""
        return 0 if wish.since is None else self._versions.find(wish.name, wish.since)


def _runs(ready: Sequence[tuple[int, _Ready]], size: int) -> Iterator[Sequence[tuple[int, _Ready]]]:
    """As they go together into commits."""
    run: list[tuple[int, _Ready]] = []
    filled = 0
    for place, each in ready:
        taken = each.wish.entity.ByteSize()
        if run and (len(run) == size or filled + taken > COMMIT_BYTES):
            yield run
            run, filled = [], 0
        run.append((place, each))
        filled += taken
    if run:
        yield run
