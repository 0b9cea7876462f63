"""Keeping a job's machines up against clouds whose services misbehave: bounded, told, and nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.fleet import BOOT_LIMIT_S
from kubeq.actions.launching import ensure_nodes, observe_pool, pool_of_request
from kubeq.actions.orphans import find_orphans, stop_orphans
from kubeq.actions.replacing import MOST_BARREN, MOST_REFUSALS, PAUSE_S, Replacing
from kubeq.actions.session import Session
from kubeq.core.model import GoneReason, Job, Pool
from kubeq.errors import BackendError
from tests.contract.both_clouds import cloud
from tests.contract.machine_clouds import CloudRig
from tests.jobs import FakeClock, Work, session_in
from tests.stand_ins.gce_catalogue import PROJECT

__all__ = ["cloud"]
SOON_S = 60.0


@pytest.fixture
def clock() -> FakeClock:
    """It begins now: the clouds say when a machine was made."""
    clock = FakeClock()
    clock.wall = time.time()
    return clock


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock, cloud: CloudRig) -> Session:
    plain, provider = session_in(tmp_path, clock), cloud.provider()
    far = plain.beside(
        replace(
            plain.config,
            provider=provider.name,
            project=PROJECT,
            region=cloud.machines.region,
            machine_type=cloud.machines.types[:1],
            spot=True,
            spot_budget=2,
            nodes=2,
            queue_url="dynamodb://eu-1/kubeq",
            default_url_prefix="s3://bucket/me",
            cas_url_prefix="s3://bucket/me",
        )
    )
    far.provider = provider  # type: ignore[misc]
    return far


@pytest.fixture
def pool(session: Session) -> Pool:
    return pool_of_request(session, private=False)


@pytest.fixture
def job(session: Session, clock: FakeClock, pool: Pool) -> Job:
    return Work(session, clock).submit([(str(n),) for n in range(4)], ["n"], pool=pool.id)


def tend(session: Session, job: Job, tending: Replacing) -> None:
    nodes = job.nodes
    job = replace(session.queue.refresh(job), nodes=nodes)
    tending(job, session.queue.outcomes(job.id), observe_pool(session, job.pool))


def soon(holds: Callable[[], bool]) -> bool:
    """Whether it does within a minute."""
    deadline = time.monotonic() + SOON_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def live(session: Session, pool: Pool) -> list[str]:
    return sorted(name for name, seen in session.provider.observe(pool.id).items() if seen.alive)


def test_machines_that_boot_and_die_are_bounded_told_and_nothing_of_them_is_left(
    session: Session, cloud: CloudRig, pool: Pool, job: Job, clock: FakeClock
) -> None:
    cloud.failing()
    said: list[str] = []
    tending = Replacing(session, pool, said.append)
    with pytest.raises(BackendError, match="have ended one after another without ever working") as caught:
        for _ in range(MOST_BARREN + 1):
            tend(session, replace(job, nodes=1), tending)
            assert soon(lambda: not live(session, pool))
            clock.advance(30)
    assert caught.value.exit_code == 6
    assert cloud.launches() == MOST_BARREN
    assert cloud.standing() == [], "a machine that switched itself off is no machine any more, with its disk"
    assert sum("has ended" in sentence for sentence in said) == MOST_BARREN


def test_machines_that_never_boot_are_bounded_told_and_ended(
    session: Session, cloud: CloudRig, pool: Pool, job: Job, clock: FakeClock
) -> None:
    tending = Replacing(session, pool, lambda sentence: None)
    with pytest.raises(BackendError, match="it did not report itself in 15m00s"):
        for _ in range(MOST_BARREN + 1):
            tend(session, replace(job, nodes=1), tending)
            assert len(cloud.standing()) == 1
            clock.advance(2 * BOOT_LIMIT_S)  # the cloud's own clock has gone on a little meanwhile
    assert cloud.launches() == MOST_BARREN
    assert soon(lambda: not cloud.standing())


def test_spot_machines_that_are_taken_back_are_replaced_within_the_budget(
    session: Session, cloud: CloudRig, pool: Pool, job: Job, clock: FakeClock
) -> None:
    said: list[str] = []
    ensure_nodes(session, pool, 2)
    tending = Replacing(session, pool, said.append)
    for number in (1, 2):
        taken = f"{pool.id}-{number}"
        cloud.preempt(taken)
        assert soon(lambda taken=taken: taken not in live(session, pool))  # type: ignore[misc]
        clock.advance(30)
        tend(session, job, tending)
    rows = {node.number: node for node in session.queue.peers(pool.id)}
    assert [rows[number].gone for number in (1, 2)] == [GoneReason.PREEMPTED] * 2
    spots = [rows[number].machine.spot for number in (1, 2, 3, 4) if rows[number].machine]  # type: ignore[union-attr]
    assert spots == [True, True, True, False]
    assert "2 spot machines were taken back; ordinary ones from here on" in said
    session.provider.terminate([rows[number].name for number in (3, 4)])
    assert soon(lambda: not cloud.standing())


def test_where_no_zone_has_a_machine_left_that_is_told_and_tried_again_for_minutes(
    session: Session, cloud: CloudRig, pool: Pool, job: Job, clock: FakeClock
) -> None:
    assert pool.machines is not None
    full = session.provider.offers(pool.machines)[0].zone
    cloud.no_room(zone=full)
    assert len(ensure_nodes(session, pool, 2)) == 2
    machines = [node.machine for node in session.queue.peers(pool.id)]
    assert all(machine is not None and machine.zone != full for machine in machines), "the next zone has some"
    cloud.no_room()
    for name in cloud.standing():
        cloud.preempt(name)
    assert soon(lambda: not cloud.standing())
    tending = Replacing(session, pool, lambda sentence: None)
    with pytest.raises(BackendError, match="no node could be started"):
        for _ in range(MOST_REFUSALS + 2):
            clock.advance(PAUSE_S + 1)
            tend(session, job, tending)
    assert cloud.standing() == []


def test_machines_of_a_pool_that_this_queue_does_not_know_are_found_and_ended(
    session: Session, cloud: CloudRig, pool: Pool
) -> None:
    names = ensure_nodes(session, pool, 2)
    assert find_orphans(session) == []
    session.queue.forget_pool(pool.id)
    orphans = find_orphans(session)
    assert sorted(orphan.owned.name for orphan in orphans) == sorted(names)
    assert all(orphan.owned.machine.price for orphan in orphans)
    stop_orphans(orphans)
    assert soon(lambda: not cloud.standing())
    assert find_orphans(session) == []
