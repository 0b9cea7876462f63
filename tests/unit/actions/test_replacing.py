"""Machines of a job that are gone: what is told, what is replaced, how often, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from kubeq.actions.aborting import stop_nodes
from kubeq.actions.fleet import BOOT_LIMIT_S, SILENT_S, UNSEEN_S
from kubeq.actions.launching import add_nodes, ensure_nodes, fleet_now, nodes_for, observe_pool, pool_of_request
from kubeq.actions.nodes import list_nodes
from kubeq.actions.replacing import MOST_BARREN, MOST_REFUSALS, PAUSE_S, Replacing, replacing
from kubeq.actions.session import Session
from kubeq.actions.tending import tending_of
from kubeq.core.model import GoneReason, Job, NodeName, NodeOrder, NodeState, Pool, PoolId, Reach
from kubeq.errors import BackendError
from kubeq.nodes.base import Launched, NodeCapabilities, NodeRequest, Observation, Refused
from tests.jobs import FakeClock, Work
from tests.providers import FakeCloud, FakeProvider
from tests.unit.actions.test_machines import configured


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def far(session: Session, cloud: FakeCloud) -> Session:
    return configured(session, cloud, nodes=3, spot=True, spot_budget=2)


@pytest.fixture
def pool(far: Session) -> Pool:
    return pool_of_request(far, private=False)


@pytest.fixture
def job(work: Work, pool: Pool, far: Session) -> Job:
    return submitted(far, work, pool, tasks=6)


def submitted(session: Session, work: Work, pool: Pool, *, tasks: int) -> Job:
    return work.submit([(str(n),) for n in range(tasks)], ["n"], pool=pool.id)


def tend(session: Session, job: Job, tending: Callable[..., None]) -> None:
    job = session.queue.refresh(job)
    tending(job, session.queue.outcomes(job.id), observe_pool(session, job.pool))


def came(work: Work, pool: Pool, *names: str, worked: bool = True) -> None:
    """Those machines have become nodes."""
    for name in names:
        work.report_node(name=NodeName(name), pool=pool.id, worked=worked)


def names(pool: Pool, *numbers: int) -> tuple[NodeName, ...]:
    return tuple(NodeName(f"{pool.id}-{number}") for number in numbers)


def test_machines_that_are_taken_back_are_replaced_until_the_budget_is_spent_whoever_looks(
    far: Session, session: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    said: list[str] = []
    assert ensure_nodes(far, pool, 3) == names(pool, 1, 2, 3)
    came(work, pool, *names(pool, 1, 2, 3))
    tending = Replacing(far, pool, said.append)
    tend(far, job, tending)
    assert (said, len(cloud.requests)) == ([], 3)
    cloud.preempt(names(pool, 2)[0])
    clock.advance(10)
    tend(far, job, tending)
    assert said[0] == f"machine {pool.id}-2 (m.small, spot, eu-1a) has ended: taken back"
    assert said[1] == f"starting 1 more: {pool.id}-4"
    assert [request.machines.spot for _, request in cloud.requests if request.machines] == [True] * 4
    cloud.preempt(names(pool, 4)[0])
    cloud.nodes.pop(names(pool, 2)[0])  # the cloud has forgotten the first
    clock.advance(10)
    other = configured(session, cloud, nodes=3, spot=True, spot_budget=2)
    tend(other, job, Replacing(other, pool, said.append))
    assert said[-2] == "2 spot machines were taken back; ordinary ones from here on"
    last = cloud.requests[-1][1].machines
    assert last is not None
    assert not last.spot
    rows = {node.name: node for node in far.queue.peers(pool.id)}
    assert [rows[name].gone for name in names(pool, 2, 4)] == [GoneReason.PREEMPTED] * 2
    assert rows[names(pool, 4)[0]].machine is not None


def test_no_second_watcher_adds_more_whenever_it_looks(
    far: Session, session: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    ensure_nodes(far, pool, 3)
    came(work, pool, *names(pool, 1, 2, 3))
    for name in names(pool, 1, 3):
        cloud.preempt(name)
    other = configured(session, cloud, nodes=3, spot=True, spot_budget=2)
    number, first = far.queue.number_next, [True]

    def racing(*args: object, **more: object) -> list[int]:
        """The other one looked at the same time, and is faster by a moment."""
        if first.pop() if first else False:
            assert ensure_nodes(other, pool, 3) == names(pool, 4, 5)
        return number(*args, **more)  # type: ignore[arg-type]

    far.queue.number_next = racing  # type: ignore[method-assign]
    assert ensure_nodes(far, pool, 3) == ()
    assert len(cloud.requests) == 5


def test_a_machine_that_is_on_no_list_yet_is_waited_for_and_not_for_ever(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    cloud.quiet = True
    ensure_nodes(far, pool, 3)
    assert ensure_nodes(far, pool, 3) == ()
    clock.advance(UNSEEN_S + 1)
    assert ensure_nodes(far, pool, 3) == names(pool, 4, 5, 6)


def test_a_launch_of_many_takes_long_and_what_it_tried_in_vain_is_still_on_its_way(
    far: Session, cloud: FakeCloud, pool: Pool, clock: FakeClock
) -> None:
    launch = cloud.launch

    def slow(request: NodeRequest, asked: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        """Somebody else looks in the middle: one machine stands, one was refused by a first zone, 98 were not tried."""
        first, second, *_ = asked
        launch(request, {first: 1})
        cloud.nodes[second] = pool.id, Observation(name=second, alive=False, reason="no room in the first zone")
        clock.advance(UNSEEN_S + 200)
        fleet = fleet_now(far, pool)
        assert (fleet.live, len(fleet.coming), fleet.ended) == ((first,), 99, ())
        del cloud.nodes[second]
        return launch(request, asked)

    cloud.launch = slow  # type: ignore[method-assign]
    assert len(ensure_nodes(far, pool, 100)) == 100
    fleet = fleet_now(far, pool)
    assert (len(fleet.live), fleet.coming, fleet.numbered_from) == (100, (), 101)


def test_machines_that_somebody_adds_by_hand_are_on_their_way_too(far: Session, cloud: FakeCloud, pool: Pool) -> None:
    launch = cloud.launch

    def watched(request: NodeRequest, asked: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        assert fleet_now(far, pool).coming == tuple(asked)
        return launch(request, asked)

    cloud.launch = watched  # type: ignore[method-assign]
    assert add_nodes(far, pool, 2) == names(pool, 1, 2)
    assert add_nodes(far, pool, 1) == names(pool, 3)


def test_a_launch_that_could_not_be_tried_is_no_machine_on_its_way(far: Session, cloud: FakeCloud, pool: Pool) -> None:
    launch = cloud.launch

    def broken(request: object, asked: object) -> Mapping[NodeName, Launched | Refused]:
        raise BackendError("the image is not there")

    cloud.launch = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(BackendError, match="the image is not there"):
        ensure_nodes(far, pool, 3)
    cloud.launch = launch  # type: ignore[method-assign]
    assert ensure_nodes(far, pool, 3) == names(pool, 4, 5, 6)


def test_nodes_whose_rows_were_forgotten_neither_come_nor_have_just_ended(
    far: Session, cloud: FakeCloud, pool: Pool, clock: FakeClock
) -> None:
    ensure_nodes(far, pool, 3)
    cloud.preempt(names(pool, 1)[0])
    fleet_now(far, pool)
    clock.advance(86400.0)
    far.queue.forget_nodes(far.queue.peers(pool.id))
    preempted = cloud.nodes[names(pool, 1)[0]]  # Google remembers for two weeks
    cloud.nodes.clear()
    ensure_nodes(far, pool, 1)
    cloud.nodes[names(pool, 1)[0]] = preempted
    fleet = fleet_now(far, pool)
    assert (fleet.live, fleet.coming, fleet.ended) == (names(pool, 4), (), ())


def test_machines_that_never_work_are_not_made_for_ever_and_the_reason_is_told(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    said: list[str] = []
    tending = tending_of(far, job, said.append)
    cloud.dies_of = "Client.InvalidAMI: the image does not boot"
    job = replace(job, nodes=1)
    with pytest.raises(BackendError, match=r"3 machines .* without ever working: Client.InvalidAMI") as caught:
        for number in range(1, 10):
            cloud.consoles[names(pool, number)[0]] = "Booting\n\nKernel panic - not syncing\n"
            clock.advance(20)
            tending(job, far.queue.outcomes(job.id), observe_pool(far, pool.id))
    assert caught.value.exit_code == 6
    assert len(cloud.requests) == MOST_BARREN
    assert said[-3:] == [f"the console of {pool.id}-3 ends so:", "  Booting", "  Kernel panic - not syncing"]
    again = tending_of(far, job, said.append)
    clock.advance(20)
    again(job, far.queue.outcomes(job.id), observe_pool(far, pool.id))
    assert len(cloud.requests) == MOST_BARREN + 1, "who comes after having mended it has tries again"


def test_machines_that_worked_or_waited_in_vain_are_no_bad_sign(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    tending = Replacing(far, pool, lambda sentence: None)
    for number in range(1, 7):
        tend(far, job, tending)
        (name,) = names(pool, number)
        came(work, pool, name, worked=number % 2 == 0)
        row = next(node for node in far.queue.peers(pool.id) if node.name == name)
        idle = replace(row, state=NodeState.GONE, gone=GoneReason.IDLE, ended_at=clock.now())
        far.queue.report(idle if number % 2 else row)
        cloud.die(name, "it crashed")
        clock.advance(UNSEEN_S + 1)
    assert len(cloud.requests) >= 6


def test_nothing_is_started_for_tasks_that_run_already_or_that_nobody_wants(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, clock: FakeClock
) -> None:
    job = submitted(far, work, pool, tasks=2)
    tending = Replacing(far, pool, lambda sentence: None)
    work.claim(2, pool=pool.id)
    tend(far, job, tending)
    assert cloud.requests == []
    other = submitted(far, work, pool, tasks=2)
    far.queue.pause(other)
    tend(far, other, tending)
    assert cloud.requests == []
    far.queue.resume(other)
    tend(far, other, tending)
    assert len(cloud.requests) == 2, "no more than tasks"


def test_a_machine_that_never_reports_itself_is_given_up(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    cloud.made_at = clock.now()
    ensure_nodes(far, pool, 1)
    clock.advance(BOOT_LIMIT_S + 1)
    fleet = fleet_now(far, pool)
    assert (fleet.live, fleet.overdue) == ((), names(pool, 1))
    assert not cloud.nodes[names(pool, 1)[0]][1].alive
    (row,) = far.queue.peers(pool.id)
    assert (row.gone, row.note) == (GoneReason.NEVER_STARTED, "it did not report itself in 15m00s")


@pytest.mark.parametrize("why", [GoneReason.IDLE, GoneReason.NEVER_STARTED, GoneReason.LOST])
def test_a_machine_that_still_stands_long_after_its_agent_left_is_told_to_go_unless_it_may_work_out_of_reach(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, clock: FakeClock, why: GoneReason
) -> None:
    (name,) = ensure_nodes(far, pool, 1)
    row = work.report_node(name=name, pool=pool.id)
    far.queue.record_end(replace(row, state=NodeState.GONE, gone=why, ended_at=clock.now()))
    clock.advance(BOOT_LIMIT_S - 1)
    assert fleet_now(far, pool).overdue == ()
    clock.advance(2)
    fleet_now(far, pool)
    assert cloud.nodes[name][1].alive is (why is GoneReason.LOST)


def test_a_machine_that_is_on_no_list_any_more_and_says_nothing_is_gone(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, clock: FakeClock
) -> None:
    (name,) = ensure_nodes(far, pool, 1)
    work.report_node(name=name, pool=pool.id)
    cloud.nodes.clear()
    assert fleet_now(far, pool).live == (name,)
    clock.advance(SILENT_S + 1)
    row = next(node for node in far.queue.peers(pool.id) if node.name == name)
    far.queue.report(replace(row, provider="ec2"))
    fleet = fleet_now(far, pool)
    assert (fleet.live, [node.gone for node in fleet.ended]) == ((), [GoneReason.LOST])


def test_those_that_cannot_be_had_are_told_and_the_others_work(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    launch, said = cloud.launch, list[str]()

    def partly(request: object, asked: dict[NodeName, int]) -> object:
        answers = dict(launch(request, {name: number for name, number in asked.items() if number == 1}))  # type: ignore[arg-type]
        cloud.refuses = "the quota of 1 machine is used up"
        answers |= launch(request, {name: number for name, number in asked.items() if number > 1})  # type: ignore[arg-type]
        cloud.refuses = None
        return answers

    cloud.launch = partly  # type: ignore[method-assign, assignment]
    assert ensure_nodes(far, pool, 3, said.append) == names(pool, 1)
    assert said == ["2 nodes could not be started: the quota of 1 machine is used up"]
    notes = [node.note for node in far.queue.peers(pool.id)]
    assert notes == [None, *["the quota of 1 machine is used up"] * 2]
    cloud.die(names(pool, 1)[0])
    with pytest.raises(BackendError, match="no node could be started: the quota"):
        ensure_nodes(far, pool, 3, said.append)


def test_an_interrupt_in_the_middle_of_a_launch_leaves_no_machine(far: Session, cloud: FakeCloud, pool: Pool) -> None:
    launch = cloud.launch

    def interrupted(request: object, asked: object) -> object:
        launch(request, asked)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    cloud.launch = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        add_nodes(far, pool, 2)
    assert [seen.alive for _, seen in cloud.nodes.values()] == [False, False]


def test_machines_that_a_user_stopped_are_not_started_again(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job
) -> None:
    said: list[str] = []
    (name,) = ensure_nodes(far, pool, 1)
    far.queue.order(work.report_node(name=name, pool=pool.id), NodeOrder.RELEASE)
    cloud.die(name)
    tending = Replacing(far, pool, said.append)
    tend(far, job, tending), tend(far, job, tending)
    assert len(cloud.requests) == 1
    assert said[-1] == f"its nodes were stopped; kubeq addnodes 1 {job.id} starts one"


def test_where_no_machine_can_be_had_it_is_tried_again_for_minutes_and_then_told(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, clock: FakeClock
) -> None:
    said: list[str] = []
    tending, tries, launch = Replacing(far, pool, said.append), [0], cloud.launch

    def counted(request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        tries[0] += 1
        return launch(request, names)

    cloud.launch = counted  # type: ignore[method-assign]
    cloud.refuses = "there is no room in eu-1a"
    tend(far, job, tending), tend(far, job, tending)
    assert tries == [1]
    assert said == ["no node could be started: there is no room in eu-1a; trying again in 1m00s"]
    cloud.refuses = None
    clock.advance(PAUSE_S + 1)
    tend(far, job, tending)
    assert said[1].startswith("starting 3 more: ")
    for name in list(cloud.nodes):
        cloud.preempt(name)
    cloud.refuses = "there is no room in eu-1a"
    with pytest.raises(BackendError, match="no node could be started: there is no room in eu-1a"):
        for _ in range(MOST_REFUSALS + 1):
            clock.advance(PAUSE_S + 1)
            tend(far, job, tending)
    assert tries == [2 + MOST_REFUSALS]


def test_a_cloud_that_does_not_answer_for_a_while_is_waited_for(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tending = Replacing(far, pool, said.append)
    nodes, outcomes = observe_pool(far, pool.id), far.queue.outcomes(job.id)

    def away(pool: PoolId) -> Mapping[NodeName, Observation]:
        raise BackendError("the cloud cannot be reached", transient=True)

    def denied(pool: PoolId) -> Mapping[NodeName, Observation]:
        raise BackendError("the cloud knows nobody of that name")

    with monkeypatch.context() as patch:
        patch.setattr(cloud, "observe", away)
        tending(job, outcomes, nodes), tending(job, outcomes, nodes)
        assert said == ["the cloud cannot be reached; trying again while the job goes on"]
        patch.setattr(cloud, "observe", denied)
        with pytest.raises(BackendError, match="knows nobody"):
            tending(job, outcomes, nodes)
    tending(job, outcomes, nodes)
    assert len(cloud.requests) == 3


class FakeHosts(FakeProvider):
    """So many hosts of the user's own, each for one node."""

    name = "ssh"
    capabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=False, relays=True)

    def __init__(self, hosts: int) -> None:
        super().__init__()
        self.hosts = hosts

    def usual(self, tasks: int) -> int:
        return min(self.hosts, tasks)

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        free = self.hosts - sum(seen.alive for _, seen in self.nodes.values())
        taken = "every host that there is has an agent of this pool"
        started = super().launch(request, dict(list(names.items())[:free]))
        return dict(started) | {name: Refused(name=name, reason=taken) for name in names if name not in started}


def test_only_who_has_submitted_a_job_replaces_its_machines_by_watching(
    far: Session, cloud: FakeCloud, work: Work, pool: Pool, job: Job, session: Session
) -> None:
    far.user = job.user  # type: ignore[misc]
    job = replace(job, results_url=f"{far.store.url}/results/{job.id}/")
    assert replacing(far, job, lambda sentence: None) is None, "nothing was ever started for it"
    far.queue.make_pool(pool)
    assert replacing(far, job, lambda sentence: None) is not None
    assert replacing(far, replace(job, user="somebody else"), lambda sentence: None) is None
    assert replacing(far, replace(job, results_url="s3://other/x/"), lambda sentence: None) is None


def test_hosts_of_ones_own_are_used_first_and_machines_make_up_what_is_missing(
    session: Session, cloud: FakeCloud, work: Work, clock: FakeClock
) -> None:
    mixed = configured(session, cloud, hosts=("one", "two"), nodes=4)
    hosts = FakeHosts(2)
    pool = pool_of_request(mixed, private=False)
    mixed._own_hosts[pool.id] = hosts
    assert len(pool.hosts) == 2
    said: list[str] = []
    assert ensure_nodes(mixed, pool, 4, said.append) == names(pool, 1, 2, 3, 4)
    assert ([name for name, _ in hosts.requests], [name for name, _ in cloud.requests]) == (
        list(names(pool, 1, 2)),
        list(names(pool, 3, 4)),
    )
    assert [request.machines for _, request in hosts.requests] == [None, None]
    assert said == ["every host that there is has an agent of this pool; machines make up what is missing"]
    for name in names(pool, 1, 2):
        work.report_node(name=name, pool=pool.id)
    assert ensure_nodes(mixed, pool, 4) == ()
    cloud.preempt(names(pool, 4)[0])
    assert ensure_nodes(mixed, pool, 4) == names(pool, 5)
    assert [name for name, _ in cloud.requests][-1:] == list(names(pool, 5))
    fleet = fleet_now(mixed, pool)
    assert set(fleet.live) == set(names(pool, 1, 2, 3, 5))
    assert [provider.name for provider in mixed.providers_of(pool.id)] == ["ec2", "ssh", "local"]
    unsaid = configured(session, cloud, hosts=("one", "two"))
    unsaid.adopt(pool)
    unsaid._own_hosts[pool.id] = hosts
    assert nodes_for(unsaid, pool, 9) == 2, "without --nodes as many as there are hosts"


def facts_of(session: Session) -> dict[NodeName, tuple[NodeState, GoneReason | None, str | None]]:
    return {facts.node.name: (facts.node.state, facts.node.gone, facts.because) for facts in list_nodes(session)}


def test_a_machine_that_was_stopped_before_its_agent_spoke_is_terminated_and_not_lost(
    far: Session, cloud: FakeCloud, pool: Pool, clock: FakeClock
) -> None:
    ordered, forgotten, by_others = ensure_nodes(far, pool, 3)
    assert stop_nodes(far, pool.id, (ordered, forgotten)).left_over == ()
    cloud.nodes.pop(forgotten)  # as Compute Engine forgets what was deleted
    cloud.die(by_others, "User initiated shutdown")
    told = "it was told to leave before its agent spoke"
    expected = {
        ordered: (NodeState.GONE, GoneReason.TERMINATED, told),
        forgotten: (NodeState.GONE, GoneReason.TERMINATED, told),
        by_others: (NodeState.GONE, GoneReason.NEVER_STARTED, "User initiated shutdown"),
    }
    assert facts_of(far) == expected, "as it is seen"
    clock.advance(UNSEEN_S + 1)
    fleet_now(far, pool)
    assert facts_of(far) == expected, "as it is written down"
