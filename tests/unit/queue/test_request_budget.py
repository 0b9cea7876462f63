"""How many calls each step of a task's journey costs; what the architecture promises is held here."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import pytest

from kubeq.core.model import Ending, Exit, Job, Node, NodeName, NodeState, PoolId
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.queue.base import LARGE, Cursor, Page, Partition
from kubeq.queue.claiming import WIDEST_WINDOW
from kubeq.queue.claims import Final, Room
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue

POOL, NODE = PoolId("p"), NodeName("n1")
BIG = Resources(cpu=1000.0)
Submit = Callable[..., Job]


def room(starts: int) -> Room:
    return Room(free=BIG, total=BIG, starts=starts)


def test_a_submission_costs_two_calls_and_one_a_batch_of_tasks(table: Any, submit: Submit) -> None:
    tasks = 25_000
    submit(tasks)
    calls = table.taken()
    assert calls == {"insert": 1 + ceil(tasks / table.batch), "swap": 1}


def test_a_claim_costs_a_list_a_due_page_and_one_swap(table: Any, queue: Queue, submit: Submit) -> None:
    submit(100)
    table.taken()
    assert len(queue.claim(POOL, NODE, room(16)).grants) == 16
    assert table.taken() == {"due": 2, "swap": 1}


def test_renewing_many_attempts_is_one_swap(table: Any, queue: Queue, submit: Submit) -> None:
    submit(50)
    grants = queue.claim(POOL, NODE, room(50)).grants
    table.taken()
    queue.renew(grants, [None] * 50)
    assert table.taken() == {"swap": 1}


def test_finishing_many_attempts_is_one_swap(table: Any, queue: Queue, submit: Submit) -> None:
    submit(50)
    grants = queue.claim(POOL, NODE, room(50)).grants
    table.taken()
    report = Report(ended_at=1.0, exit=Exit(code=0))
    queue.finish([Final(grant=grant, ending=Ending.SUCCEEDED, report=report) for grant in grants])
    assert table.taken() == {"swap": 1}


def test_an_idle_poll_is_one_list_of_open_jobs(table: Any, queue: Queue, submit: Submit) -> None:
    for _ in range(100):
        queue.claim(POOL, NODE, room(4))
    assert table.taken() == {"due": 100}


def test_an_idle_poll_beside_open_jobs_adds_one_page_a_job(table: Any, queue: Queue, submit: Submit) -> None:
    submit(1, id="j1")
    submit(1, id="j2")
    queue.claim(POOL, NODE, room(4))
    table.taken()
    queue.claim(POOL, NODE, room(4))
    assert table.taken() == {"due": 3}


def test_a_node_report_is_one_swap_after_its_first(table: Any, queue: Queue) -> None:
    node = Node(name=NODE, pool=POOL, number=1, provider="local", state=NodeState.ACTIVE, host="h", requested_at=1.0)
    queue.report(node)
    table.taken()
    queue.report(node)
    assert table.taken() == {"get": 1, "swap": 1}


def test_a_status_tick_is_one_count(table: Any, queue: Queue, submit: Submit) -> None:
    job = submit(1000)
    table.taken()
    queue.outcomes(job.id)
    assert table.taken() == {"count": 1}


def test_killing_a_large_job_costs_calls_by_the_batch_and_not_by_the_task(
    table: Any, queue: Queue, submit: Submit
) -> None:
    job = submit(20_000)
    table.taken()
    queue.cancel_job(job)
    calls = table.taken()
    batches = ceil(20_000 / table.batch)
    assert calls["swap"] <= 2 + batches, calls
    assert calls["list"] <= 2 * (batches + 1), calls


def test_nobody_counts_a_job_that_is_seen_to_be_unfinished(table: Any, queue: Queue, submit: Submit) -> None:
    job = submit(1000)
    queue.claim(POOL, NODE, room(1))
    table.taken()
    assert not queue.close_if_done(job)
    assert table.taken() == {"due": 1, "get": 2}


class Asked(MemoryTable):
    """Remembers how many rows each look at due tasks asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        if partition.startswith(LARGE):
            self.limits.append(limit)
        return super().due(partition, before, after, limit)


@pytest.mark.parametrize(
    ("ahead", "slots", "asked", "granted"),
    [
        (0, 100, 3, 2),  # nothing ahead: how many are due does not matter
        (1, 100, 104, 3),  # as many as show whether the pool has a slot for each
        (1, WIDEST_WINDOW - 1, WIDEST_WINDOW, 3),
        (1, WIDEST_WINDOW, 3, 2),  # more slots than any look shows tasks
    ],
)
def test_a_claim_asks_for_no_more_rows_than_it_has_use_for(
    table: Any, queue: Queue, submit: Submit, ahead: int, slots: int, asked: int, granted: int
) -> None:
    watched = table._table = Asked()
    submit(400)
    grants = queue.claim(POOL, NODE, Room(free=BIG, total=BIG, starts=2, ahead=ahead, pool_slots=slots)).grants
    assert (watched.limits, len(grants)) == ([asked], granted)
