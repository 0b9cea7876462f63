"""Keeping a job's machines up against a cloud whose service misbehaves: bounded, told, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.launching import ensure_nodes, observe_pool, pool_of_request
from kubeq.actions.machines import machines_of
from kubeq.actions.orphans import find_orphans, stop_orphans
from kubeq.actions.replacing import MOST_BARREN, MOST_REFUSALS, PAUSE_S, Replacing
from kubeq.actions.session import Session
from kubeq.core.model import GoneReason, Job, NodeName, Pool
from kubeq.errors import BackendError, KubeqError
from kubeq.nodes.gce import GceProvider, GceSettings
from tests.jobs import FakeClock, Work, session_in
from tests.stand_ins.gce import FakeGce
from tests.stand_ins.gce_catalogue import PROJECT, REGION, ZONES


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock, gce: FakeGce) -> Session:
    plain = session_in(tmp_path, clock)
    far = plain.beside(
        replace(
            plain.config,
            provider="gce",
            project=PROJECT,
            region=REGION,
            zones=(ZONES[0], ZONES[1]),
            machine_type=("e2-standard-2",),
            spot=True,
            spot_budget=2,
            nodes=2,
            queue_url="dynamodb://eu-1/kubeq",
            default_url_prefix="s3://bucket/me",
            cas_url_prefix="s3://bucket/me",
        )
    )
    price: Callable[..., float] = lambda provider, kind, region, spot: 0.02 if spot else 0.07  # noqa: E731
    far.provider = GceProvider(GceSettings(state_dir=tmp_path, project=PROJECT), price)  # type: ignore[misc]
    return far


@pytest.fixture
def pool(session: Session) -> Pool:
    return pool_of_request(session, private=False)


@pytest.fixture
def job(session: Session, clock: FakeClock, pool: Pool) -> Job:
    return Work(session, clock).submit([(str(n),) for n in range(4)], ["n"], pool=pool.id)


def tend(session: Session, job: Job, tending: Replacing) -> None:
    tending(session.queue.refresh(job), session.queue.outcomes(job.id), observe_pool(session, job.pool))


def standing(gce: FakeGce) -> list[str]:
    return sorted(gce.instances.states())


def test_machines_that_boot_and_die_are_bounded_told_and_nothing_of_them_is_left(
    session: Session, gce: FakeGce, pool: Pool, job: Job, clock: FakeClock
) -> None:
    gce.instances.failing = True
    said: list[str] = []
    tending = Replacing(session, pool, said.append)
    job = replace(job, nodes=1)
    with pytest.raises(BackendError, match="have ended one after another without ever working") as caught:
        for _ in range(20):
            clock.advance(30)
            tending(job, session.queue.outcomes(job.id), observe_pool(session, pool.id))
    assert caught.value.exit_code == 6
    assert gce.instances.made == MOST_BARREN
    assert standing(gce) == [], "a machine that switched itself off is no machine any more, with its disk"
    assert sum("has ended" in sentence for sentence in said) == MOST_BARREN


def test_spot_machines_that_are_taken_back_are_replaced_within_the_budget(
    session: Session, gce: FakeGce, pool: Pool, job: Job, clock: FakeClock
) -> None:
    said: list[str] = []
    ensure_nodes(session, pool, 2)
    tending = Replacing(session, pool, said.append)
    for number in (1, 2):
        gce.instances.preempt(f"kubeq-{pool.id}-{number}")
        clock.advance(30)
        tend(session, job, tending)
    rows = {node.number: node for node in session.queue.peers(pool.id)}
    assert [rows[number].gone for number in (1, 2)] == [GoneReason.PREEMPTED] * 2
    spots = [rows[number].machine.spot for number in (1, 2, 3, 4) if rows[number].machine]  # type: ignore[union-attr]
    assert spots == [True, True, True, False]
    assert "2 spot machines were taken back; ordinary ones from here on" in said
    session.provider.terminate([NodeName(f"{pool.id}-{number}") for number in (3, 4)])
    assert standing(gce) == []


def test_where_no_zone_has_a_machine_left_that_is_told_and_tried_again_for_minutes(
    session: Session, gce: FakeGce, pool: Pool, job: Job, clock: FakeClock
) -> None:
    gce.instances.exhausted = {ZONES[0]}
    assert len(ensure_nodes(session, pool, 2)) == 2
    assert all(zone == ZONES[1] for zone, _ in gce.instances.by_name), "the next zone has some"
    gce.instances.exhausted = {ZONES[0], ZONES[1]}
    for name in standing(gce):
        gce.instances.preempt(name)
    tending = Replacing(session, pool, lambda sentence: None)
    with pytest.raises(BackendError, match="no node could be started"):
        for _ in range(MOST_REFUSALS + 2):
            clock.advance(PAUSE_S + 1)
            tend(session, job, tending)
    assert standing(gce) == []


def test_machines_of_a_pool_that_this_queue_does_not_know_are_found_and_ended(
    session: Session, gce: FakeGce, pool: Pool
) -> None:
    names = ensure_nodes(session, pool, 2)
    assert find_orphans(session) == []
    session.queue.forget_pool(pool.id)
    orphans = find_orphans(session)
    assert sorted(orphan.owned.name for orphan in orphans) == sorted(names)
    assert {orphan.owned.machine.price for orphan in orphans} == {0.02}
    stop_orphans(orphans)
    assert standing(gce) == []
    assert find_orphans(session) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "mars-west1"},
        {"zones": ("mars-west1-a",)},
        {"machine_type": ("n9-none-1",)},
        {"gce_image": "no-such-image"},
        {"subnets": ("no-such-subnet",)},
        {"machine_network": "no-such-network"},
        {"node_identity": "nobody@test-project.iam.gserviceaccount.com"},
        {"machine_type": (), "resources": "cpu=5000"},
        {"machine_type": (), "resources": "gpu=64"},
    ],
)
def test_what_the_cloud_does_not_have_is_told_before_anything_is_started(
    session: Session, gce: FakeGce, wrong: dict[str, object]
) -> None:
    asked = session.beside(replace(session.config, **wrong))  # type: ignore[arg-type]
    asked.provider = session.provider  # type: ignore[misc]
    machines = machines_of(asked)
    assert machines is not None
    try:
        offers = session.provider.offers(machines)
    except KubeqError as error:
        assert error.exit_code in (2, 4, 6)
        assert "\n" not in error.message
    else:
        assert offers == () or list(offers) == []
    assert gce.instances.made == 0
