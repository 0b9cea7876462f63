"""Renewals keep what is alive, and tell of what is not ours any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from kubeq.core.clock import SystemClock
from kubeq.core.model import Node, NodeName, NodeOrder, NodeState, Policy, PoolId, Reach
from kubeq.core.outcome import Stop
from kubeq.errors import AccessDenied, BackendError
from kubeq.queue.claims import Grant
from kubeq.queue.queue import Queue
from kubeq_consumer.lease import Renewer
from kubeq_consumer.silence import REFUSED_S, Silence
from tests.jobs import FakeClock


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
        silence=Silence(SystemClock()),
        wake=lambda: None,
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


class Door:
    """A queue that takes a node's row, or refuses it."""

    reach = Reach.NETWORK

    def __init__(self) -> None:
        self.refuses = False

    def report(self, node: Node) -> Node:
        if self.refuses:
            raise AccessDenied("let go")
        return node


class Comer:
    """A node that reports itself to a Door, in the state and with the note that the test says."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.door = Door()
        self.silence = Silence(self.clock)
        self.row = node()
        self.woken = 0
        self.renewer = Renewer(
            self.door,  # type: ignore[arg-type]
            self.clock,
            held=tuple,
            describe=lambda: self.row,
            ordered=lambda order: None,
            told=lambda number: None,
            silence=self.silence,
            wake=self._wake,
        )

    def _wake(self) -> None:
        assert self.renewer.introduced, "who is woken finds that it may claim"
        self.woken += 1

    def report(self, state: NodeState = NodeState.ACTIVE, note: str | None = None) -> None:
        self.row = replace(self.row, state=state, note=note)
        self.renewer.report()


def test_a_node_is_woken_once_when_the_queue_has_first_taken_that_it_has_begun() -> None:
    comer = Comer()
    comer.report(NodeState.STARTING)
    assert (comer.renewer.introduced, comer.woken) == (False, 0)
    comer.door.refuses = True
    comer.report()
    assert (comer.renewer.introduced, comer.woken) == (False, 0)
    comer.door.refuses = False
    comer.report()
    comer.report(note="news")
    assert (comer.renewer.introduced, comer.woken) == (True, 1)


def test_a_no_to_a_node_that_may_not_claim_yet_is_a_no_as_one_to_a_claim_is() -> None:
    comer = Comer()
    comer.report(NodeState.STARTING)
    comer.clock.advance(REFUSED_S)
    comer.report(NodeState.STARTING, "nearly")
    comer.door.refuses = True
    comer.report()
    comer.clock.advance(REFUSED_S)
    assert not comer.silence.is_final(holding=False)
    comer.clock.advance(1)
    assert comer.silence.is_final(holding=False)
    comer.door.refuses = False
    comer.report()
    assert not comer.silence.is_final(holding=False)


def test_once_a_node_may_claim_its_reports_say_nothing_of_how_long_the_queue_gives_it_nothing() -> None:
    comer = Comer()
    comer.report()
    comer.silence.go_on(AccessDenied("no claims for you"))
    comer.clock.advance(REFUSED_S + 1)
    comer.report(note="news")
    assert comer.silence.is_final(holding=False)
