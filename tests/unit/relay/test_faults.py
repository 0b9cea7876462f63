"""Answers get lost, connections break, relays are restarted, laptops sleep: nothing is lost and nothing runs twice."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from kubeq.core.model import Ending, Exit, NodeState, Reason, TaskState
from kubeq.core.model import Node as NodeRecord
from kubeq.core.transitions import Report
from kubeq.errors import BackendError
from kubeq.queue.claims import Final, Grant, Room
from kubeq.queue.relay import RelayClaims
from kubeq.relay_wire import parse_url
from kubeq.store.logs import LogWriter
from kubeq.store.relay import RelayStore
from kubeq.store.retry import Retrying
from tests.relays import POOL, Tunnel
from tests.unit.relay.conftest import BIG, TERM_S, House, Node

T = TypeVar("T")
FAULTS = ["before", "half", "after", "half answer"]


class Remote:
    """A node at the other end of a tunnel."""

    def __init__(self, house: House, tunnel: Tunnel, name: str) -> None:
        self.node = house.node(name)
        self.claims: RelayClaims = house.relay.claims(self.node.token, tunnel.address)
        self.store: RelayStore = house.relay.store(self.node.token, tunnel.address)

    def claim(self, starts: int = 1) -> list[Grant]:
        return list(self.claims.claim(POOL, self.node.name, Room(free=BIG, total=BIG, starts=starts)).grants)


@pytest.fixture
def tunnel(house: House) -> Iterator[Tunnel]:
    one = Tunnel(house.relay.socket)
    yield one
    one.close()


@pytest.fixture
def remote(house: House, tunnel: Tunnel) -> Remote:
    return Remote(house, tunnel, "n1")


def again(call: Callable[[], T]) -> T:
    """The answer after as many tries as it takes, as an agent tries: only what may be mended is tried again."""
    for _ in range(5):
        try:
            return call()
        except BackendError as error:
            assert error.transient, error
    raise AssertionError("it does not come through")


def done(grant: Grant) -> Final:
    return Final(grant=grant, ending=Ending.SUCCEEDED, report=Report(ended_at=1e9, exit=Exit(code=0)))


def idle(house: House, seconds: float, *nodes: Node) -> None:
    """Time goes by while those nodes ask for work."""
    end = house.clock.now() + seconds
    while house.clock.now() < end:
        house.clock.advance(min(TERM_S / 10, end - house.clock.now()))
        for node in nodes:
            assert node.claim() == []


# -- connections that break -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True], ids=["new connection", "used connection"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_granted_in_an_answer_that_got_lost_is_granted_again_and_only_once(
    house: House, tunnel: Tunnel, remote: Remote, fault: str, used: bool
) -> None:
    job = house.submit(3)
    if used:
        remote.claims.peers(POOL)
    tunnel.faults.append(fault)
    grants = again(lambda: remote.claim(2))
    assert [(grant.task.id.index, grant.attempt) for grant in grants] == [(1, 1), (2, 1)]
    assert [(grant.task.id.index, grant.attempt) for grant in remote.claim(2)] == [(3, 1)]
    assert [task.attempt for task in house.queue.tasks(job.id)] == [1, 1, 1]
    assert [task.state for task in remote.claims.finish([done(grant) for grant in grants]) if task] == [
        TaskState.SUCCEEDED,
        TaskState.SUCCEEDED,
    ]


def test_a_claim_granted_again_has_its_whole_term_before_it(house: House, tunnel: Tunnel, remote: Remote) -> None:
    house.submit(1)
    tunnel.faults.append("after")
    with pytest.raises(BackendError):
        remote.claim()
    house.clock.advance(TERM_S / 4)
    (grant,) = remote.claim()
    assert grant.task.claimable_at == house.clock.now() + TERM_S


def test_what_was_granted_and_taken_away_meanwhile_is_not_granted_again(
    house: House, tunnel: Tunnel, remote: Remote
) -> None:
    job = house.submit(2)
    tunnel.faults.append("after")
    with pytest.raises(BackendError):
        remote.claim(1)
    house.queue.reset(job, [1], force=True)
    assert [(grant.task.id.index, grant.attempt) for grant in remote.claim(2)] == [(1, 2), (2, 1)]


def test_a_new_life_of_an_agent_is_not_given_what_the_last_one_was_never_told_of(
    house: House, tunnel: Tunnel, remote: Remote
) -> None:
    house.submit(1)
    tunnel.faults.append("after")
    with pytest.raises(BackendError):
        remote.claim()
    reborn = house.relay.claims(remote.node.token, tunnel.address)
    assert reborn.claim(POOL, remote.node.name, Room(free=BIG, total=BIG, starts=1)).grants == ()


@pytest.mark.parametrize("used", [False, True], ids=["new connection", "used connection"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_other_call_may_be_made_again_when_its_answer_got_lost(
    house: House, tunnel: Tunnel, remote: Remote, fault: str, used: bool
) -> None:
    job = house.submit(2, retries=3, image="python:3.12")
    one, two = remote.claim(2)
    record = NodeRecord(
        name=remote.node.name, pool=POOL, number=1, provider="x", state=NodeState.ACTIVE, host="h", requested_at=1.0
    )
    failed = Final(grant=two, ending=Ending.FAILED, reason=Reason.EXIT, report=Report(ended_at=1e9, exit=Exit(code=3)))
    pinned = "python@sha256:" + "a" * 64

    def at_fault(call: Callable[[], T]) -> T:
        if not used:
            remote.claims = house.relay.claims(remote.node.token, tunnel.address)
        tunnel.faults.append(fault)
        return again(call)

    assert [grant is not None for grant in at_fault(lambda: remote.claims.renew([one, two], [None, None]))] == [
        True
    ] * 2
    assert at_fault(lambda: remote.claims.report(record)).name == remote.node.name
    assert at_fault(lambda: remote.claims.pin(job.id, "image", pinned)) == pinned
    assert [peer.name for peer in at_fault(lambda: remote.claims.peers(POOL))] == ["n1"]
    at_fault(lambda: remote.claims.wait(0.01))
    recorded = at_fault(lambda: remote.claims.finish([done(one), failed]))
    assert [task.state for task in recorded if task] == [TaskState.SUCCEEDED, TaskState.PENDING]
    first, second = house.queue.tasks(job.id)
    assert (first.attempt, first.state) == (1, TaskState.SUCCEEDED)
    assert (second.attempt, second.failures) == (1, 1), "one failure, however often it was told"


@pytest.mark.parametrize("fault", FAULTS)
def test_objects_arrive_whole_over_a_line_that_breaks(house: House, tunnel: Tunnel, remote: Remote, fault: str) -> None:
    content = bytes(range(256)) * 4000
    store = Retrying(remote.store, lambda seconds: None)
    digest = hashlib.sha256(content).hexdigest()
    for name in ("a", "b", "c"):
        tunnel.faults.append(fault)
        store.put(f"nodes/n1/{name}", lambda: io.BytesIO(content), len(content), digest)
    tunnel.faults.append(fault)
    assert store.stat(["nodes/n1/a", "nodes/n1/d"]) == {"nodes/n1/a": len(content)}
    tunnel.faults.append(fault)
    assert [stored.key for stored in store.list("nodes/n1/")] == [f"nodes/n1/{name}" for name in "abc"]
    tunnel.faults.append(fault)
    with store.get("nodes/n1/b", 1000) as stream:
        assert stream.read() == content[1000:]
    tunnel.faults.append(fault)
    store.delete(["nodes/n1/b"])
    assert [stored.size for stored in house.objects.list("nodes/")] == [len(content)] * 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_log_is_neither_cut_nor_doubled_by_a_line_that_breaks(
    house: House, tunnel: Tunnel, remote: Remote, fault: str
) -> None:
    house.submit(1)
    (grant,) = remote.claim()
    writer = LogWriter(remote.store, grant.task.id, 1)
    said = b""
    for number in range(6):
        said += f"line {number}\n".encode()
        tunnel.faults.append(fault)
        pending = f"line {number}\n".encode()
        again(lambda pending=pending: writer.append(pending))  # type: ignore[misc]
    shipped = b"".join(house.objects.get(stored.key).__enter__().read() for stored in house.objects.list("logs/"))
    assert shipped == said


def test_an_outage_shorter_than_the_lease_costs_nothing(house: House, tunnel: Tunnel, remote: Remote) -> None:
    job = house.submit(1)
    other = house.node("n2")
    (grant,) = remote.claim()
    tunnel.down()
    for _ in range(9):
        house.clock.advance(TERM_S / 10)
        assert other.claim() == []
        with pytest.raises(BackendError) as error:
            remote.claims.renew([grant], [None])
        assert error.value.transient
    tunnel.up()
    assert remote.claims.renew([grant], [None])[0] is not None
    house.clock.advance(TERM_S / 2)
    assert other.claim() == []
    assert remote.claims.finish([done(grant)])[0] is not None
    assert [(task.attempt, task.losses) for task in house.queue.tasks(job.id)] == [(1, 0)]


def test_a_way_whose_port_changes_is_followed_through_the_file_that_names_it(house: House, tmp_path: Path) -> None:
    file = tmp_path / "relay"
    node = house.node("n1")
    claims = house.relay.claims(node.token, parse_url(f"relay://{file}"))
    with pytest.raises(BackendError, match="cannot be reached") as error:
        claims.peers(POOL)
    assert error.value.transient
    for content in ("", "nonsense", "127.0.0.1:", "127.0.0.1:x"):
        file.write_text(content)
        with pytest.raises(BackendError, match="cannot be reached"):
            claims.peers(POOL)
    for _ in range(2):
        tunnel = Tunnel(house.relay.socket)
        file.write_text(f"{tunnel.address.host}:{tunnel.address.port}\n")
        assert again(lambda: claims.peers(POOL)) == []
        tunnel.close()


# -- relays that are restarted, stopped, asleep -----------------------------------------------------------------------


def test_a_relay_that_was_restarted_serves_everybody_as_before(house: House) -> None:
    job = house.submit(3)
    node = house.node("n1")
    one, two = node.claim(2)
    assert node.claims.finish([done(one)])[0] is not None
    house.relay.stop()
    house.relay.start()
    assert node.claims.finish([done(one)])[0] is not None, "the answer of before may have been lost"
    assert node.claims.renew([two], [None])[0] is not None
    assert [grant.task.id.index for grant in node.claim(5)] == [3]
    assert [task.attempt for task in house.queue.tasks(job.id)] == [1, 1, 1]


def test_after_a_start_of_the_relay_no_lease_is_taken_over_for_one_term(house: House) -> None:
    job = house.submit(1)
    holder, other = house.node("n1"), house.node("n2")
    (grant,) = holder.claim()
    house.relay.stop()
    house.clock.advance(10 * TERM_S)
    house.relay.start()
    idle(house, TERM_S * 0.95, other)
    assert holder.claims.renew([grant], [None])[0] is not None, "nobody has taken it over"
    house.relay.stop()
    house.clock.advance(10 * TERM_S)
    house.relay.start()
    assert other.claim() == []
    idle(house, TERM_S * 0.95, other)
    house.clock.advance(TERM_S * 0.1)
    assert [taken.attempt for taken in other.claim()] == [2], "a holder that stays away loses it after all"
    assert [task.losses for task in house.queue.tasks(job.id)] == [1]


@pytest.mark.parametrize("asleep", [False, True], ids=["the process stopped", "the laptop asleep"])
def test_after_a_pause_longer_than_the_lease_no_live_attempt_is_superseded(house: House, asleep: bool) -> None:
    job = house.submit(2)
    first, second = house.node("n1"), house.node("n2")
    (grant,), (late,) = first.claim(), second.claim()
    idle(house, TERM_S / 5, first, second)
    house.clock.wall += 8 * 3600.0
    house.clock.steady += 0.0 if asleep else 8 * 3600.0
    assert second.claim() == [], "the first to come back takes nothing from those who have not yet"
    idle(house, TERM_S * 0.9, second)
    assert first.claims.finish([done(grant)])[0] is not None, "a result that comes late is taken"
    assert second.claims.renew([late], [None])[0] is not None
    assert [(task.attempt, task.losses) for task in house.queue.tasks(job.id)] == [(1, 0), (1, 0)]


def test_a_silence_of_the_whole_pool_counts_as_a_pause_of_the_relay(house: House) -> None:
    """The laptop was awake and its network away: all nodes are silent, and do not come back in the same second."""
    house.submit(1)
    holder, other = house.node("n1"), house.node("n2")
    (grant,) = holder.claim()
    house.clock.advance(3 * TERM_S)
    assert other.claim() == []
    assert holder.claims.renew([grant], [None])[0] is not None


def test_a_node_that_stays_away_while_others_are_heard_loses_its_lease(house: House) -> None:
    house.submit(1)
    holder, other = house.node("n1"), house.node("n2")
    holder.claim()
    idle(house, TERM_S * 0.95, other)
    house.clock.advance(TERM_S * 0.1)
    assert [grant.attempt for grant in other.claim()] == [2]


def test_a_sweep_of_a_paused_job_waits_too(house: House) -> None:
    job = house.submit(1)
    holder, other = house.node("n1"), house.node("n2")
    holder.claim()
    house.queue.pause(job)
    house.clock.advance(3 * TERM_S)
    assert other.claim() == []
    assert house.queue.tasks_at(job.id, [1])[0].state is TaskState.CLAIMED
    idle(house, 1.5 * TERM_S, other)
    assert house.queue.tasks_at(job.id, [1])[0].state is TaskState.PENDING
