"""Grants on a memory table, made in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubeq.core.clock import SystemClock
from kubeq.core.model import Policy
from kubeq.queue.claims import Grant
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from tests.queued import claim, submitted


@pytest.fixture
def queue() -> Queue:
    return Queue(MemoryTable(), SystemClock())


@pytest.fixture
def grants(queue: Queue) -> Callable[..., list[Grant]]:
    def make(tasks: int, policy: Policy | None = None) -> list[Grant]:
        submitted(queue, tasks, id="j1", policy=policy)
        return claim(queue, tasks)

    return make
