"""How many nodes a job is to have, changed while it runs: who is started, who goes first, and who stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from kubeq.actions.fleet import fleet_of, withdrawn
from kubeq.actions.launching import (
    add_nodes,
    ensure_nodes,
    fleet_now,
    nodes_for,
    observe_pool,
    pool_of_request,
    stopped_by_user,
)
from kubeq.actions.replacing import Replacing
from kubeq.actions.resume import resume
from kubeq.actions.session import Session
from kubeq.actions.starting import Wish
from kubeq.actions.targets import missing_nodes, retarget
from kubeq.actions.tending import Tending
from kubeq.core.model import GoneReason, Job, Node, NodeName, NodeOrder, NodeState, Pool, PoolId
from kubeq.errors import BackendError, Conflict
from kubeq.nodes.base import Launched, NodeRequest, Observation, Refused
from tests.jobs import FakeClock, Work
from tests.providers import FakeCloud, FakeProvider
from tests.unit.actions.test_machines import configured


@pytest.fixture
def provider(session: Session) -> FakeProvider:
    fake = FakeProvider()
    session.provider = fake  # type: ignore[misc]
    return fake


@pytest.fixture
def pool(session: Session, provider: FakeProvider) -> Pool:
    return pool_of_request(session, private=False)


@pytest.fixture
def job(work: Work, pool: Pool) -> Job:
    return submitted(work, pool, 6)


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def far(session: Session, cloud: FakeCloud) -> Session:
    return configured(session, cloud)


@pytest.fixture
def machines(far: Session) -> Pool:
    """A pool of machines of a cloud."""
    return pool_of_request(far, private=False)


def submitted(work: Work, pool: Pool, tasks: int, nodes: int | None = None) -> Job:
    job = work.submit([(str(n),) for n in range(tasks)], ["n"], pool=pool.id)
    return job if nodes is None else work.session.queue.set_nodes(job, nodes)


def named(pool: Pool, *numbers: int) -> tuple[NodeName, ...]:
    return tuple(NodeName(f"{pool.id}-{number}") for number in numbers)


def come(work: Work, pool: Pool, *numbers: int, **more: object) -> None:
    """Those nodes work now."""
    for name, number in zip(named(pool, *numbers), numbers, strict=True):
        node = work.report_node(name=name, pool=pool.id, **more)
        work.session.queue.report(replace(node, number=number))


def rows(session: Session, pool: Pool) -> Mapping[int, Node]:
    return {node.number: node for node in session.queue.peers(pool.id)}


def run_on(work: Work, pool: Pool, number: int) -> None:
    """That node runs one more task of the pool's oldest job that has one, and says so."""
    (name,) = named(pool, number)
    work.claim(1, pool=pool.id, node=name)
    standing = rows(work.session, pool)[number]
    mine = tuple(id for id, grant in work.grants.items() if grant.task.current and grant.task.current.node == name)
    work.session.queue.report(replace(standing, tasks=mine))


# -- raising ----------------------------------------------------------------------------------------------------------


def test_raising_starts_the_difference_and_every_later_command_goes_by_it(
    session: Session, provider: FakeProvider, pool: Pool, job: Job
) -> None:
    ensure_nodes(session, pool)
    assert missing_nodes(session, pool, job, 3) == 2
    done = retarget(session, pool, job, 3)
    assert (done.started, done.before, done.because) == (named(pool, 2, 3), None, None)
    assert retarget(session, pool, done.job, 3).started == ()
    assert session.queue.refresh(job).nodes == 3
    provider.die(named(pool, 2)[0])
    assert resume(session, session.queue.refresh(job)).launched == named(pool, 4)


def test_no_more_nodes_are_started_than_tasks_are_left(session: Session, pool: Pool, work: Work, job: Job) -> None:
    grants = work.claim(5, pool=pool.id)
    for grant in grants:
        work.end(grant)
    done = retarget(session, pool, job, 4)
    assert (len(done.started), done.because) == (1, "it has 1 unfinished task")
    assert session.queue.refresh(job).nodes == 4, "a retry gets them"


def test_a_paused_job_gets_its_nodes_when_it_goes_on(session: Session, pool: Pool, job: Job) -> None:
    paused = session.queue.pause(job)
    assert missing_nodes(session, pool, paused, 2) == 0
    done = retarget(session, pool, paused, 2)
    assert (done.started, done.because) == ((), f"it is paused: kubeq resume {job.id} starts what is missing")
    assert len(resume(session, done.job).launched) == 2


def test_a_job_that_has_ended_only_remembers_the_number(session: Session, pool: Pool, work: Work) -> None:
    job = submitted(work, pool, 1)
    work.end(work.claim(1, pool=pool.id)[0])
    done = retarget(session, pool, session.queue.refresh(job), 2)
    assert (done.started, done.because, done.job.nodes) == ((), "nothing of it is left to do", 2)


def test_an_incomplete_job_is_refused_and_left_as_it_is(session: Session, pool: Pool, work: Work) -> None:
    job = work.submit([("1",)], ["n"], seal=False, pool=pool.id)
    with pytest.raises(Conflict, match="is incomplete"):
        retarget(session, pool, job, 2)
    assert session.queue.refresh(job).nodes is None


def test_where_none_can_be_had_the_number_stands_and_is_tried_for_again(
    far: Session, cloud: FakeCloud, machines: Pool, work: Work
) -> None:
    job = submitted(work, machines, 4)
    cloud.refuses = "there is no room in eu-1a"
    with pytest.raises(BackendError, match="no room"):
        retarget(far, machines, job, 2)
    cloud.refuses = None
    assert far.queue.refresh(job).nodes == 2
    assert len(resume(far, far.queue.refresh(job)).launched) == 2


def test_what_is_wished_is_not_made_otherwise_by_somebody_who_waits(
    far: Session, session: Session, cloud: FakeCloud, machines: Pool, work: Work
) -> None:
    job = submitted(work, machines, 6, nodes=1)
    ensure_nodes(far, machines)
    other = configured(session, cloud)
    waiting = Replacing(other, machines, lambda sentence: None)
    launch = cloud.launch

    def watched(request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        """The other client looks while the machines are being made."""
        tend(other, job, waiting)
        return launch(request, names)

    cloud.launch = watched  # type: ignore[method-assign]
    assert machines.machines is not None
    wish = Wish(machines=replace(machines.machines, spot=True))
    assert retarget(far, machines, job, 3, wish=wish).started == named(machines, 2, 3)
    made = [(name, request.machines.spot) for name, request in cloud.requests if request.machines]
    assert made == list(zip(named(machines, 1, 2, 3), [False, True, True], strict=True))


def test_no_more_machines_are_made_than_were_agreed_to_and_none_for_a_job_that_was_paused_meanwhile(
    far: Session, cloud: FakeCloud, machines: Pool, work: Work, clock: FakeClock
) -> None:
    job = submitted(work, machines, 9, nodes=3)
    ensure_nodes(far, machines, 3)
    come(work, machines, 1, 2, 3)
    agreed = missing_nodes(far, machines, job, 5)
    for name in named(machines, 1, 2, 3):
        cloud.preempt(name)
    clock.advance(5)
    done = retarget(far, machines, job, 5, most=agreed)
    assert (agreed, done.started) == (2, named(machines, 4, 5))
    assert done.because == f"3 more were missing than asked about: kubeq addnodes --to 5 {job.id}"
    far.queue.pause(job)
    later = retarget(far, machines, job, 6, most=4)
    assert (later.started, later.because) == ((), f"it is paused: kubeq resume {job.id} starts what is missing")


# -- lowering ---------------------------------------------------------------------------------------------------------


def test_those_that_have_not_begun_go_first_then_idle_ones_then_the_newest_that_are_busy(
    session: Session, provider: FakeProvider, pool: Pool, work: Work, job: Job
) -> None:
    add_nodes(session, pool, 6)
    come(work, pool, 1, 2, 3, 4)
    come(work, pool, 5, state=NodeState.STARTING)
    for number in (1, 3, 4):
        run_on(work, pool, number)
    done = retarget(session, pool, job, 2)
    assert (done.ended, done.leaving, done.finishing) == (
        list(named(pool, 6, 5)),
        list(named(pool, 2)),
        list(named(pool, 4)),
    )
    found = rows(session, pool)
    assert {number: node.order for number, node in found.items() if node.order} == dict.fromkeys(
        (2, 4, 5, 6), NodeOrder.SHRINK
    )
    assert [found[number].gone for number in (5, 6)] == [GoneReason.TERMINATED] * 2
    assert [seen.alive for _, (_, seen) in sorted(provider.nodes.items())] == [True] * 4 + [False] * 2
    assert set(observe_pool(session, pool.id).live) == set(named(pool, 1, 3))
    again = retarget(session, pool, done.job, 2)
    assert (again.ended, again.leaving, again.finishing, again.started) == ([], [], [], ())


def test_no_attempt_is_stopped(session: Session, provider: FakeProvider, pool: Pool, work: Work, job: Job) -> None:
    add_nodes(session, pool, 2)
    come(work, pool, 1, 2)
    run_on(work, pool, 1), run_on(work, pool, 2)
    assert retarget(session, pool, job, 1).finishing == list(named(pool, 2))
    assert all(seen.alive for _, seen in provider.nodes.values()), "its agent hears of it and finishes"
    assert [task.state for task in session.queue.tasks(job.id)].count("claimed") == 2


def test_a_node_whose_agent_speaks_up_at_that_very_moment_is_let_finish(
    session: Session, provider: FakeProvider, pool: Pool, work: Work, job: Job
) -> None:
    add_nodes(session, pool, 2)
    come(work, pool, 1)
    withdraw, first = session.queue.withdraw, [True]

    def racing(node: Node) -> bool:
        if first.pop() if first else False:
            come(work, pool, 2)
            run_on(work, pool, 2)
        return withdraw(node)

    session.queue.withdraw = racing  # type: ignore[method-assign]
    done = retarget(session, pool, job, 1)
    assert (done.ended, done.leaving, done.finishing) == ([], list(named(pool, 1)), [])
    assert all(seen.alive for _, seen in provider.nodes.values())


def test_an_agent_that_was_started_again_is_let_deliver_what_its_earlier_life_has_left(
    session: Session, provider: FakeProvider, pool: Pool, work: Work, job: Job
) -> None:
    add_nodes(session, pool, 2)
    come(work, pool, 1, 2)
    run_on(work, pool, 1), run_on(work, pool, 2)
    come(work, pool, 2, state=NodeState.STARTING)
    done = retarget(session, pool, job, 1)
    assert (done.ended, done.leaving) == ([], list(named(pool, 2)))
    assert all(seen.alive for _, seen in provider.nodes.values()), "its agent hears of it once it has come up"
    assert not session.queue.withdraw(withdrawn(pool, named(pool, 2)[0], "too late", session.queue.now()))


def test_an_agent_that_comes_up_although_it_was_given_up_is_told_to_leave(
    session: Session, pool: Pool, work: Work, job: Job
) -> None:
    add_nodes(session, pool, 2)
    come(work, pool, 1)
    assert retarget(session, pool, job, 1).ended == list(named(pool, 2))
    come(work, pool, 2)
    assert rows(session, pool)[2].order is NodeOrder.SHRINK
    assert observe_pool(session, pool.id).live == named(pool, 1)


def test_nodes_that_other_jobs_use_are_not_touched_nor_what_these_are_to_have(
    session: Session, pool: Pool, work: Work, job: Job
) -> None:
    add_nodes(session, pool, 4)
    come(work, pool, 1, 2, 3, 4)
    for number in (1, 1, 1, 1, 1, 2):
        run_on(work, pool, number)
    other = submitted(work, pool, 6, nodes=2)
    run_on(work, pool, 3), run_on(work, pool, 4)
    done = retarget(session, pool, job, 1)
    assert (done.leaving, done.finishing) == ([], list(named(pool, 2, 1)))
    assert done.because == f"job {other.id} (demo) of the same pool is to have 2"
    assert set(observe_pool(session, pool.id).live) == set(named(pool, 3, 4))


def test_it_is_told_when_only_nodes_with_work_of_other_jobs_are_left(
    session: Session, pool: Pool, work: Work, job: Job
) -> None:
    other = work.submit([("1",), ("2",)], ["n"], pool=pool.id)
    add_nodes(session, pool, 2)
    come(work, pool, 1, 2)
    work.claim(6, pool=pool.id, node=NodeName("elsewhere"))
    run_on(work, pool, 1), run_on(work, pool, 2)
    assert other.nodes is None
    done = retarget(session, pool, job, 1)
    assert (done.ended, done.leaving, done.finishing) == ([], [], [])
    assert done.because == "1 more stay, as they run tasks of other jobs"


def test_what_a_user_stops_while_a_number_is_lowered_stays_stopped_and_is_not_told_as_leaving_for_it(
    session: Session, pool: Pool, work: Work, job: Job
) -> None:
    add_nodes(session, pool, 2)
    come(work, pool, 1, 2)
    order, stopped = session.queue.order, list[Node]()

    def late(node: Node, what: NodeOrder) -> Node | None:
        """A user stops every node after it was looked who is idle."""
        if not stopped:
            stopped.extend(rows(session, pool).values())
            for each in stopped:
                order(each, NodeOrder.RELEASE)
        return order(node, what)

    session.queue.order = late  # type: ignore[method-assign]
    done = retarget(session, pool, job, 1)
    assert (done.leaving, done.finishing) == ([], [])
    assert [node.order for node in rows(session, pool).values()] == [NodeOrder.RELEASE] * 2
    assert stopped_by_user(rows(session, pool).values())


# -- machines ---------------------------------------------------------------------------------------------------------


def tend(session: Session, job: Job, tending: Callable[..., None]) -> None:
    job = session.queue.refresh(job)
    tending(job, session.queue.outcomes(job.id), observe_pool(session, job.pool))


def test_machines_that_boot_are_ended_and_are_no_sign_that_none_ever_works(
    far: Session, cloud: FakeCloud, machines: Pool, work: Work, clock: FakeClock
) -> None:
    job = submitted(work, machines, 6)
    retarget(far, machines, job, 4)
    come(work, machines, 1)
    clock.advance(5)
    done = retarget(far, machines, job, 1)
    assert done.ended == list(named(machines, 4, 3, 2))
    assert [seen.alive for _, (_, seen) in sorted(cloud.nodes.items())] == [True, False, False, False]
    assert {node.note for node in far.queue.peers(machines.id)} == {None, f"job {job.id} is to have 1 now"}
    assert rows(far, machines)[2].machine is not None, "what it has cost is known"
    fleet = fleet_of(far, machines, cloud.observe(machines.id))
    assert (fleet.barren(0.0), fleet.preempted) == ((), 0)


def test_machines_that_another_client_is_asking_for_just_now_are_given_up_too(
    far: Session, session: Session, cloud: FakeCloud, machines: Pool, work: Work
) -> None:
    job = submitted(work, machines, 6, nodes=3)
    ensure_nodes(far, machines, 1)
    come(work, machines, 1)
    other = configured(session, cloud)
    launch = cloud.launch

    def slow(request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        assert retarget(other, machines, job, 1).ended == list(named(machines, 3, 2))
        return launch(request, names)

    cloud.launch = slow  # type: ignore[method-assign]
    assert ensure_nodes(far, machines, 3) == ()
    assert [seen.alive for _, (_, seen) in sorted(cloud.nodes.items())] == [True, False, False]
    assert fleet_now(far, machines).live == named(machines, 1)


def test_a_second_client_that_waits_starts_none_after_a_lowering_and_replaces_what_is_lost_of_the_rest(
    far: Session, session: Session, cloud: FakeCloud, machines: Pool, work: Work, clock: FakeClock
) -> None:
    said: list[str] = []
    job = submitted(work, machines, 6, nodes=3)
    other = configured(session, cloud)
    waiting = Replacing(other, machines, said.append)
    tend(other, job, waiting)
    come(work, machines, 1, 2, 3, worked=True)
    retarget(far, machines, job, 1)
    for number in (2, 3):
        gone = replace(rows(far, machines)[number], state=NodeState.GONE, gone=GoneReason.DRAINED, ended_at=clock.now())
        far.queue.report(gone)
        cloud.die(named(machines, number)[0])
    tend(other, job, waiting)
    assert len(cloud.requests) == 3
    cloud.preempt(named(machines, 1)[0])
    clock.advance(5)
    tend(other, job, waiting)
    assert (len(cloud.requests), said[-1]) == (4, f"starting 1 more: {machines.id}-4")


def test_a_client_that_waits_with_the_number_of_before_a_lowering_makes_no_machine_by_it(
    far: Session, session: Session, cloud: FakeCloud, machines: Pool, work: Work
) -> None:
    stale = submitted(work, machines, 6, nodes=5)
    ensure_nodes(far, machines, 2)
    come(work, machines, 1, 2)
    other, observe, lowered = configured(session, cloud), cloud.observe, list[Job]()

    def slow(pool: PoolId) -> Mapping[NodeName, Observation]:
        """The number is lowered while the cloud is asked which machines there are."""
        if not lowered:
            lowered.append(stale)
            lowered[0] = retarget(other, machines, stale, 2).job
        return observe(pool)

    nodes = observe_pool(far, machines.id)
    cloud.observe = slow  # type: ignore[method-assign]
    Replacing(far, machines, lambda sentence: None)(stale, far.queue.outcomes(stale.id), nodes)
    assert [name for name, _ in cloud.requests] == list(named(machines, 1, 2))
    assert (lowered[0].nodes, fleet_now(far, machines).coming) == (2, ()), "nobody waits for the numbers given out"
    assert {rows(far, machines)[number].note for number in (3, 4, 5)} == {f"job {stale.id} is to have 2 now"}


def test_what_a_user_stops_after_a_lowering_is_not_started_again(
    far: Session, cloud: FakeCloud, machines: Pool, work: Work, clock: FakeClock
) -> None:
    said: list[str] = []
    job = submitted(work, machines, 6, nodes=2)
    ensure_nodes(far, machines, 2)
    come(work, machines, 1, 2)
    retarget(far, machines, job, 1)
    far.queue.order(rows(far, machines)[1], NodeOrder.RELEASE)
    cloud.die(named(machines, 1)[0]), cloud.die(named(machines, 2)[0])
    clock.advance(5)
    tend(far, job, Replacing(far, machines, said.append))
    assert (len(cloud.requests), said[-1]) == (2, f"its nodes were stopped; kubeq addnodes 1 {job.id} starts one")


def test_the_last_agent_of_a_lowered_job_is_replaced_when_it_dies_but_not_when_it_was_stopped(
    session: Session, provider: FakeProvider, pool: Pool, work: Work, job: Job
) -> None:
    said: list[str] = []
    add_nodes(session, pool, 2)
    come(work, pool, 1, 2)
    run_on(work, pool, 1), run_on(work, pool, 2)
    retarget(session, pool, job, 1)
    provider.die(named(pool, 1)[0], "it crashed")
    tending = Tending(session, said.append)
    tend(session, job, tending)
    assert said == [f"node {pool.id}-1 has ended with work left (it crashed); starting another"]
    come(work, pool, 3)
    session.queue.order(rows(session, pool)[3], NodeOrder.FINISH)
    provider.die(named(pool, 3)[0])
    tend(session, job, tending)
    assert said[-1] == f"its nodes were stopped; kubeq addnodes 1 {job.id} starts one"


def test_the_number_of_the_job_outranks_that_of_the_configuration(
    session: Session, cloud: FakeCloud, machines: Pool, work: Work
) -> None:
    wide = configured(session, cloud, nodes=5)
    job = submitted(work, machines, 6, nodes=2)
    assert nodes_for(wide, machines, 6, job) == 2
