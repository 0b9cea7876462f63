"""A table that counts, and jobs made in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kubeq.core.model import Job, Policy, PoolId
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from tests.jobs import FakeClock
from tests.queued import submitted


class Counting:
    """A table that counts the calls of each of its methods."""

    def __init__(self, table: MemoryTable) -> None:
        self._table = table
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._table, name)
        if not callable(attribute) or name in ("clock_offset", "wait"):
            return attribute

        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            return attribute(*arguments)

        return call

    def taken(self) -> dict[str, int]:
        """The calls since the last question."""
        calls, self.calls = dict(self.calls), Counter()
        return calls


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table() -> Counting:
    return Counting(MemoryTable())


@pytest.fixture
def queue(table: Counting, clock: FakeClock) -> Queue:
    return Queue(table, clock)  # type: ignore[arg-type]


@pytest.fixture
def submit(queue: Queue, clock: FakeClock) -> Callable[..., Job]:
    def make(tasks: int, *, id: str = "j1", pool: str = "p", policy: Policy | None = None, seal: bool = True) -> Job:
        return submitted(queue, tasks, id=id, pool=PoolId(pool), policy=policy, at=clock.now(), seal=seal)

    return make
