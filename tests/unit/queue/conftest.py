"""A clock that the test moves, a table that counts, and jobs made in one line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.model import Job, JobId, Policy, PoolId
from kubeq.core.resources import Resources
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue


class FakeClock:
    """Wall and monotonic time that stand still until `advance`."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.steady = 500.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


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
        job = Job(
            id=JobId(id),
            name=id,
            pool=PoolId(pool),
            user="u",
            host="h",
            submitted_at=clock.now(),
            total=tasks,
            spec=Digest.of(b"spec"),
            columns=("x",),
            resources=Resources(cpu=1.0),
            policy=policy or Policy(),
            results_url="",
        )
        queue.begin(job)
        queue.add_tasks(job, (wire.pending_body(json.dumps([str(index)])) for index in range(1, tasks + 1)))
        return queue.seal(job) if seal else job

    return make
