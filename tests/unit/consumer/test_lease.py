"""Renewals keep what is alive, and tell of what is not ours any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from kubeq.core.clock import SystemClock
from kubeq.core.model import Node, NodeName, NodeOrder, NodeState, Policy, PoolId
from kubeq.core.outcome import Stop
from kubeq.errors import BackendError
from kubeq.queue.claims import Grant
from kubeq.queue.queue import Queue
from kubeq_consumer.lease import Renewer


class Held:
    """An attempt that only remembers how it was told to stop."""

    def __init__(self, grant: Grant) -> None:
        self.lock = threading.Lock()
        self.grant = grant
        self.renewed_at = SystemClock().monotonic()
        self.started_at: float | None = 5.0
        self.running = True
        self.stops: list[Stop] = []

    def stop(self, why: Stop) -> None:
        self.stops.append(why)


def node() -> Node:
    return Node(
        name=NodeName("n1"),
        pool=PoolId("p"),
        number=1,
        provider="local",
        state=NodeState.ACTIVE,
        host="h",
        requested_at=1.0,
    )


def renewer(queue: object, held: Sequence[Held], orders: list[NodeOrder]) -> Renewer:
    return Renewer(
        queue,  # type: ignore[arg-type]
        SystemClock(),
        held=lambda: held,
        describe=node,
        ordered=orders.append,
        told=lambda number: None,
    )


def test_a_renewal_extends_the_lease_and_records_the_start(queue: Queue, grants: Callable[..., list[Grant]]) -> None:
    held = Held(grants(1)[0])
    before = held.grant.task.claimable_at or 0.0
    renewer(queue, [held], []).renew([held])
    assert (held.grant.task.claimable_at or 0.0) > before
    assert held.grant.task.current is not None
    assert held.grant.task.current.started_at == 5.0
    assert held.stops == []


def test_a_superseded_attempt_is_told_to_publish_nothing(queue: Queue, grants: Callable[..., list[Grant]]) -> None:
    held = Held(grants(1)[0])
    queue.reset(held.grant.job, [1], force=True)
    renewer(queue, [held], []).renew([held])
    assert held.stops == [Stop.SUPERSEDED]


def test_a_cancel_rides_on_the_renewal(queue: Queue, grants: Callable[..., list[Grant]]) -> None:
    one, two = (Held(grant) for grant in grants(2))
    queue.cancel_tasks(one.grant.job, [1])
    renewer(queue, [one, two], []).renew([one, two])
    assert (one.stops, two.stops) == ([Stop.CANCELLED], [])


def test_an_attempt_that_is_being_finished_is_passed_over(queue: Queue, grants: Callable[..., list[Grant]]) -> None:
    held = Held(grants(1)[0])
    version = held.grant.version
    with held.lock:
        renewer(queue, [held], []).renew([held])
    assert held.grant.version == version


def test_orders_and_cancels_are_seen_within_a_moment_on_a_table_of_this_machine(
    queue: Queue, grants: Callable[..., list[Grant]]
) -> None:
    held, orders = Held(grants(1)[0]), list[NodeOrder]()
    queue.report(node())
    thread = renewer(queue, [held], orders)
    thread.start()
    queue.cancel_tasks(held.grant.job, [1])
    queue.order(node(), NodeOrder.FINISH)
    deadline = threading.Event()
    for _ in range(100):
        if held.stops and orders:
            break
        deadline.wait(0.1)
    thread.stop()
    assert held.stops[0] is Stop.CANCELLED
    assert orders[0] is NodeOrder.FINISH


class Unreachable:
    """A queue that never answers."""

    @property
    def reach(self) -> str:
        return "network"

    def renew(self, *_: object) -> None:
        raise BackendError("no route", transient=True)

    report = look = renew


def test_unreachable_stops_nothing_but_exclusive_attempts_whose_lease_is_about_to_end(
    queue: Queue, grants: Callable[..., list[Grant]]
) -> None:
    patient, strict = (Held(grant) for grant in grants(2, Policy(lease_s=120.0)))
    strict.grant = replace(strict.grant, job=replace(strict.grant.job, policy=Policy(lease_s=120.0, exclusive=True)))
    finished = Held(strict.grant)
    finished.running = False
    finished.renewed_at = patient.renewed_at = strict.renewed_at = SystemClock().monotonic() - 100.0
    thread = renewer(Unreachable(), [patient, strict, finished], [])
    thread.start()
    waiter = threading.Event()
    for _ in range(100):
        if strict.stops:
            break
        waiter.wait(0.1)
    thread.stop()
    assert strict.stops[0] is Stop.SUPERSEDED
    assert patient.stops == []
    assert finished.stops == [], "a command that has ended is not run again because its result is on its way"


def test_a_queue_that_is_away_for_long_is_not_told_with_every_try(caplog: pytest.LogCaptureFixture) -> None:
    class Counting(Unreachable):
        tries = threading.Semaphore(0)

        def report(self, *_: object) -> None:
            self.tries.release()
            self.renew()

    thread = renewer(Counting(), [], [])
    thread.start()
    for _ in range(3):
        assert Counting.tries.acquire(timeout=60)
    thread.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "leases could not be renewed; what runs goes on: no route"
    ]
