"""Grants on a memory table, made in one line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from kubeq.core import wire
from kubeq.core.clock import SystemClock
from kubeq.core.digest import Digest
from kubeq.core.model import Job, JobId, NodeName, Policy, PoolId
from kubeq.core.resources import Resources
from kubeq.queue.claims import Grant, Room
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue

POOL, NODE = PoolId("p"), NodeName("n1")


@pytest.fixture
def queue() -> Queue:
    return Queue(MemoryTable(), SystemClock())


@pytest.fixture
def grants(queue: Queue) -> Callable[..., list[Grant]]:
    def make(tasks: int, policy: Policy | None = None) -> list[Grant]:
        job = Job(
            id=JobId("j1"),
            name="j1",
            pool=POOL,
            user="u",
            host="h",
            submitted_at=queue.now(),
            total=tasks,
            spec=Digest.of(b"spec"),
            columns=("x",),
            resources=Resources(cpu=1.0),
            policy=policy or Policy(),
            results_url="",
        )
        queue.begin(job)
        queue.add_tasks(job, (wire.pending_body(json.dumps([str(index)])) for index in range(1, tasks + 1)))
        queue.seal(job)
        big = Resources(cpu=1000.0)
        return list(queue.claim(POOL, NODE, Room(free=big, total=big, starts=tasks)).grants)

    return make
