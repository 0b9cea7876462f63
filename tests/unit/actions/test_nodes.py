"""Starting nodes, keeping them up, listing and stopping them."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from kubeq.actions.aborting import abort, stop_nodes
from kubeq.actions.agents import agent_line
from kubeq.actions.launching import (
    add_nodes,
    ensure_nodes,
    observe_pool,
    pool_of_job,
    pool_of_request,
)
from kubeq.actions.nodes import check_count, drain_node, find_node, list_nodes
from kubeq.actions.resume import resume
from kubeq.actions.session import Session
from kubeq.actions.tending import MOST_RELAUNCHES, Tending
from kubeq.core.model import GoneReason, Job, NodeName, NodeOrder, NodeState, Pool
from kubeq.errors import BackendError, Conflict, NotFound, UsageError
from tests.jobs import FakeClock, Work
from tests.providers import FakeProvider


@pytest.fixture
def provider(session: Session) -> FakeProvider:
    fake = FakeProvider()
    session.provider = fake  # type: ignore[misc]
    return fake


@pytest.fixture
def pool(session: Session) -> Pool:
    return pool_of_request(session, private=False)


@pytest.fixture
def job(work: Work, pool: Pool, provider: FakeProvider) -> Job:
    return work.submit([("1",), ("2",)], ["n"], pool=pool.id)


def tend(session: Session, job: Job, tending: Tending) -> None:
    tending(session.queue.refresh(job), session.queue.outcomes(job.id), observe_pool(session, job.pool))


# -- starting ---------------------------------------------------------------------------------------------------------


def test_a_job_without_nodes_gets_one_and_a_second_look_starts_none(
    session: Session, provider: FakeProvider, pool: Pool
) -> None:
    assert ensure_nodes(session, pool) == (NodeName(f"{pool.id}-1"),)
    assert ensure_nodes(session, pool) == ()


def test_nodes_of_a_shared_pool_linger_and_those_of_a_private_one_leave_at_once(
    session: Session, provider: FakeProvider, pool: Pool
) -> None:
    private = pool_of_request(session, private=True)
    ensure_nodes(session, pool), ensure_nodes(session, private)
    requests = {request.pool: request for _, request in provider.requests}
    assert not requests[pool.id].until_idle
    assert requests[private.id].until_idle
    assert requests[pool.id].linger_s == 600


def test_a_node_that_was_asked_to_leave_is_not_counted_on(
    session: Session, provider: FakeProvider, pool: Pool, work: Work
) -> None:
    name = ensure_nodes(session, pool)[0]
    node = work.report_node(name=name, pool=pool.id)
    session.queue.order(node, NodeOrder.FINISH)
    assert observe_pool(session, pool.id).draining == (name,)
    assert ensure_nodes(session, pool) == (NodeName(f"{pool.id}-2"),)


def test_a_node_somebody_else_started_counts_while_it_reports(
    session: Session, provider: FakeProvider, pool: Pool, work: Work, clock: FakeClock
) -> None:
    work.report_node(name=NodeName("theirs"), pool=pool.id)
    assert ensure_nodes(session, pool) == ()
    clock.advance(600)
    assert len(ensure_nodes(session, pool)) == 1


def test_numbers_are_never_given_out_twice(session: Session, provider: FakeProvider, pool: Pool) -> None:
    names = [*add_nodes(session, pool, 2), *add_nodes(session, pool, 3)]
    assert names == [f"{pool.id}-{number}" for number in range(1, 6)]


def test_a_provider_that_refuses_is_quoted(session: Session, provider: FakeProvider, pool: Pool) -> None:
    provider.refuses = "the disk is full"
    with pytest.raises(BackendError, match="the disk is full"):
        add_nodes(session, pool, 1)


def test_the_printed_line_sets_everything_an_agent_needs(session: Session, provider: FakeProvider, pool: Pool) -> None:
    words = shlex.split(agent_line(session, pool))
    assert words[0] == "env"
    assert f"KUBEQ_AGENT_POOL={pool.id}" in words
    assert f"KUBEQ_AGENT_NODE={pool.id}-1" in words
    assert words[-2:] == ["-m", "kubeq_consumer"]
    assert provider.nodes == {}
    assert f"KUBEQ_AGENT_NODE={pool.id}-2" in agent_line(session, pool)


def test_more_nodes_join_the_jobs_recorded_pool_whatever_the_configuration_says_now(
    session: Session, provider: FakeProvider, work: Work
) -> None:
    job = work.submit(pool=pool_of_request(session, private=True).id)
    assert pool_of_job(session, job).id == job.pool
    assert pool_of_job(session, job).private
    add_nodes(session, pool_of_job(session, job), 1)
    assert provider.requests[0][1].until_idle


@pytest.mark.parametrize("text", ["0", "-1", "1e9", "ten", "257", "1.5", "٣"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="number of nodes"):
        check_count(text)


# -- keeping them up --------------------------------------------------------------------------------------------------


def test_a_node_that_dies_with_work_left_is_replaced_and_its_last_words_are_told(
    session: Session, provider: FakeProvider, job: Job, pool: Pool
) -> None:
    said: list[str] = []
    tending = Tending(session, said.append)
    name = ensure_nodes(session, pool)[0]
    tend(session, job, tending)
    assert said == []
    provider.die(name, "Segmentation fault")
    tend(session, job, tending)
    assert "Segmentation fault" in said[0]
    assert observe_pool(session, pool.id).live == (NodeName(f"{pool.id}-2"),)


def test_when_no_node_stays_up_the_reason_and_the_log_are_told(
    session: Session, provider: FakeProvider, job: Job, pool: Pool
) -> None:
    provider.dies_of = "cannot import kubeq_consumer"
    ensure_nodes(session, pool)
    tending = Tending(session, lambda sentence: None)
    with pytest.raises(BackendError) as error:
        for _ in range(MOST_RELAUNCHES + 1):
            tend(session, job, tending)
    assert "cannot import kubeq_consumer" in error.value.message
    assert f"{pool.id}-{MOST_RELAUNCHES + 1}/agent.out" in error.value.message
    assert len(provider.requests) == 1 + MOST_RELAUNCHES


def test_progress_in_between_is_no_bad_luck(session: Session, provider: FakeProvider, pool: Pool, work: Work) -> None:
    job = work.submit([(str(n),) for n in range(6)], ["n"], pool=pool.id)
    tending = Tending(session, lambda sentence: None)
    provider.dies_of = "it lasted for one task"
    for _ in range(6):
        tend(session, job, tending)
        for grant in work.claim(1, pool=pool.id):
            work.end(grant)
    assert not session.queue.refresh(job).open


@pytest.mark.parametrize("others", [False, True])
def test_nodes_on_hosts_that_do_not_answer_are_waited_for_unless_another_host_does(
    session: Session, provider: FakeProvider, pool: Pool, work: Work, clock: FakeClock, others: bool
) -> None:
    pool = replace(pool, hosts=("alpha name=alpha", "beta name=beta") if others else ("alpha name=alpha",))
    job = work.submit([("1",), ("2",)], ["n"], pool=pool.id)
    name = ensure_nodes(session, pool)[0]
    work.report_node(name=name, pool=pool.id, address="alpha")
    provider.nodes.clear()
    provider.quiet_hosts = {"alpha": "ada@alpha did not answer within 5 s"}
    said: list[str] = []
    tending = Tending(session, said.append)
    tend(session, job, tending)
    clock.advance(3600)
    for _ in range(3):
        tend(session, job, tending)
    told = ["its nodes go on by themselves while they cannot be reached: ada@alpha did not answer within 5 s"]
    assert said == ([] if others else told)
    assert len(provider.requests) == (2 if others else 1)


@pytest.mark.parametrize("gate", ["pause", "cancel_job"])
def test_a_job_that_is_not_to_run_gets_no_nodes(
    session: Session, provider: FakeProvider, work: Work, pool: Pool, gate: str
) -> None:
    job = work.submit([("1",), ("2",)], ["n"], pool=pool.id)
    work.claim(1, pool=pool.id)
    getattr(session.queue, gate)(job)
    tend(session, job, Tending(session, lambda sentence: None))
    assert provider.requests == []


def test_nodes_that_a_user_stopped_are_not_started_again(
    session: Session, provider: FakeProvider, job: Job, pool: Pool, work: Work
) -> None:
    said: list[str] = []
    name = ensure_nodes(session, pool)[0]
    node = work.report_node(name=name, pool=pool.id)
    session.queue.order(node, NodeOrder.RELEASE)
    provider.die(name)
    tending = Tending(session, said.append)
    tend(session, job, tending), tend(session, job, tending)
    assert len(provider.requests) == 1
    assert len(said) == 1 and "addnodes" in said[0]


@pytest.mark.parametrize(("hosts", "asked"), [(("one name=one",), True), ((), False)])
def test_hosts_are_asked_for_containers_where_the_job_needs_them(
    session: Session, provider: FakeProvider, pool: Pool, job: Job, hosts: tuple[str, ...], asked: bool
) -> None:
    ensure_nodes(session, replace(pool, hosts=hosts), job=job)
    add_nodes(session, replace(pool, hosts=hosts), 1)
    assert [request.containers for _, request in provider.requests] == [asked, False]


# -- going on ---------------------------------------------------------------------------------------------------------


def test_resuming_a_paused_job_lets_it_be_claimed_and_starts_a_node(
    session: Session, provider: FakeProvider, job: Job
) -> None:
    session.queue.pause(job)
    done = resume(session, session.queue.refresh(job))
    assert (done.completed, done.unpaused, len(done.launched)) == (False, True, 1)
    assert not session.queue.refresh(job).paused


def test_resuming_a_job_that_has_ended_does_nothing(session: Session, work: Work, provider: FakeProvider) -> None:
    job = work.submit()
    work.run()
    done = resume(session, session.queue.refresh(job))
    assert (done.completed, done.unpaused, done.launched) == (False, False, ())


def test_a_killed_job_cannot_be_resumed(session: Session, work: Work, provider: FakeProvider) -> None:
    job = work.submit([("1",), ("2",)], ["n"])
    work.claim(1)
    session.queue.cancel_job(job)
    with pytest.raises(Conflict, match="killed"):
        resume(session, session.queue.refresh(job))


# -- listing and stopping ---------------------------------------------------------------------------------------------


def test_a_node_that_died_without_a_word_is_gone_lost(
    session: Session, provider: FakeProvider, pool: Pool, work: Work
) -> None:
    name = ensure_nodes(session, pool)[0]
    work.report_node(name=name, pool=pool.id)
    assert [facts.node.state for facts in list_nodes(session)] == [NodeState.ACTIVE]
    provider.die(name, "Killed")
    facts = list_nodes(session)[0]
    assert (facts.node.state, facts.node.gone, facts.because) == (NodeState.GONE, GoneReason.LOST, "Killed")


def test_a_task_that_has_ended_since_the_node_reported_itself_is_not_shown_as_running(
    session: Session, provider: FakeProvider, pool: Pool, job: Job, work: Work
) -> None:
    name = ensure_nodes(session, pool)[0]
    one, two = work.claim(1, pool=pool.id, node=name)[0], work.claim(1, pool=pool.id, node=name)[0]
    work.report_node(name=name, pool=pool.id, tasks=(one.task.id, two.task.id))
    work.end(one)
    assert list_nodes(session)[0].node.tasks == (two.task.id,)
    session.queue.forget(job)
    assert list_nodes(session)[0].node.tasks == ()


def test_a_node_that_never_reported_is_starting_or_never_started(
    session: Session, provider: FakeProvider, pool: Pool
) -> None:
    name = ensure_nodes(session, pool)[0]
    assert list_nodes(session)[0].node.state is NodeState.STARTING
    provider.die(name, "no such file")
    facts = list_nodes(session)[0]
    assert (facts.node.gone, facts.because) == (GoneReason.NEVER_STARTED, "no such file")


def test_nodes_gone_for_long_are_listed_on_demand_only(
    session: Session, provider: FakeProvider, pool: Pool, work: Work, clock: FakeClock
) -> None:
    name = ensure_nodes(session, pool)[0]
    work.report_node(name=name, pool=pool.id, state=NodeState.GONE, gone=GoneReason.IDLE, ended_at=clock.now())
    assert len(list_nodes(session)) == 1
    clock.advance(2 * 3600)
    assert list_nodes(session) == []
    assert len(list_nodes(session, every=True)) == 1


def test_a_node_is_found_by_name_number_and_beginning(session: Session, provider: FakeProvider, pool: Pool) -> None:
    names = add_nodes(session, pool, 2)
    assert find_node(session, names[1]).name == names[1]
    assert find_node(session, "2").name == names[1]
    with pytest.raises(Conflict):
        find_node(session, pool.id)
    with pytest.raises(NotFound):
        find_node(session, "nobody")


def test_draining_asks_the_node_and_kills_nothing(
    session: Session, provider: FakeProvider, pool: Pool, work: Work
) -> None:
    name = ensure_nodes(session, pool)[0]
    work.report_node(name=name, pool=pool.id)
    drain_node(session, find_node(session, name))
    assert session.queue.peers(pool.id)[0].order is NodeOrder.FINISH
    assert provider.observe(pool.id)[name].alive
    assert list_nodes(session)[0].node.state is NodeState.DRAINING


def test_stopping_a_pool_leaves_no_node_of_it(session: Session, provider: FakeProvider, pool: Pool) -> None:
    names = add_nodes(session, pool, 3)
    stopped = stop_nodes(session, pool.id)
    assert (stopped.asked, stopped.left_over) == (names, ())
    assert observe_pool(session, pool.id).live == ()


def test_stopping_one_node_leaves_the_others(session: Session, provider: FakeProvider, pool: Pool) -> None:
    names = add_nodes(session, pool, 2)
    assert stop_nodes(session, pool.id, (names[0],)).asked == (names[0],)
    assert observe_pool(session, pool.id).live == (names[1],)


def test_an_abort_pauses_the_job_and_stops_its_nodes(
    session: Session, provider: FakeProvider, job: Job, pool: Pool
) -> None:
    add_nodes(session, pool, 1)
    assert len(abort(session, job).asked) == 1
    assert session.queue.refresh(job).paused
    assert observe_pool(session, pool.id).live == ()


def test_an_abort_leaves_nodes_alone_that_another_job_needs(
    session: Session, provider: FakeProvider, job: Job, pool: Pool, work: Work
) -> None:
    work.submit(pool=pool.id)
    add_nodes(session, pool, 1)
    assert abort(session, job).asked == ()
    assert session.queue.refresh(job).paused
    assert len(observe_pool(session, pool.id).live) == 1
