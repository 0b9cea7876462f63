"""Following a job to its end, and what its tasks print meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from kubeq.actions.launching import Nodes, pool_of_job
from kubeq.actions.node_requests import node_request
from kubeq.actions.output_feed import PAGE, OutputFeed
from kubeq.actions.session import Session
from kubeq.actions.tending import Tending
from kubeq.actions.waiting import Tick, follow, pause_after
from kubeq.core.model import Exit, Job, JobId, JobStatus, NodeName, PoolId, Reach, TaskState
from kubeq.errors import NotFound
from kubeq.nodes.base import Observation
from kubeq.queue.rows import Outcome
from kubeq.store.logs import LogWriter
from tests.jobs import FakeClock, Work, session_in
from tests.providers import FakeProvider


class RunningClock(FakeClock):
    """Real time in the place of a still clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def clock() -> FakeClock:
    return RunningClock()


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock) -> Session:
    session = session_in(tmp_path, clock)
    session.provider = FakeProvider()  # type: ignore[misc]
    return session


def rows(count: int) -> list[tuple[str]]:
    return [(str(n),) for n in range(count)]


def later(step: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=step)
    thread.start()
    return thread


def test_a_machine_that_still_shuts_down_gives_back_itself_what_it_runs_and_one_that_is_off_cannot(
    session: Session, work: Work
) -> None:
    provider = FakeProvider()
    session.provider = provider  # type: ignore[misc]
    job = work.submit(rows(2), ["n"])
    name = NodeName(f"{job.pool}-1")
    work.claim(1, node=name)
    shown = Observation(name=name, alive=False, ending=True)
    provider.nodes[name] = (job.pool, shown)
    ticks = follow(session, job)
    for _ in range(4):
        assert next(ticks).tasks[TaskState.CLAIMED] == 1
    provider.nodes[name] = (job.pool, replace(shown, ending=False))
    while next(ticks).tasks[TaskState.CLAIMED]:
        assert job.open


def test_the_last_tick_says_how_the_job_ended_and_the_job_is_closed(session: Session, work: Work) -> None:
    job = work.submit(rows(3), ["n"])

    def live() -> None:
        work.run(2)
        work.run(1, Exit(code=1))

    ticks = []
    for tick in follow(session, job):
        if not ticks:
            thread = later(live)
        ticks.append(tick)
    thread.join()
    assert [tick.ended for tick in ticks] == [False] * (len(ticks) - 1) + [True]
    assert ticks[-1].status is JobStatus.FAILED
    assert ticks[-1].tasks[TaskState.SUCCEEDED] == 2
    assert ticks[-1].finished == 3
    assert not ticks[-1].job.open


def test_a_job_whose_last_agent_died_before_it_closed_the_gate_is_closed_by_the_watcher(
    session: Session, work: Work
) -> None:
    job = work.submit()
    grant = work.claim()[0]
    close, session.queue.close_if_done = session.queue.close_if_done, lambda job: False  # type: ignore[method-assign]
    work.end(grant)
    session.queue.close_if_done = close  # type: ignore[method-assign]
    assert session.queue.refresh(job).open
    assert next(iter(follow(session, job))).ended
    assert not session.queue.refresh(job).open


def test_a_finished_job_is_one_tick(session: Session, work: Work) -> None:
    job = work.submit()
    work.run()
    assert [tick.ended for tick in follow(session, job)] == [True]


def test_the_end_is_noticed_within_a_tenth_of_a_second(session: Session, work: Work) -> None:
    job = work.submit()
    grant = work.claim()[0]
    ended: list[float] = []

    def end() -> None:
        work.end(grant)
        ended.append(time.monotonic())

    waits = []
    for tick in follow(session, job):
        if not waits:
            thread = later(end)
        waits.append(tick)
    noticed = time.monotonic()
    thread.join()
    assert noticed - ended[0] < 0.1


def test_a_large_job_on_the_network_is_counted_seldom_and_its_end_is_noticed_all_the_same(
    session: Session, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(session.table), "reach", Reach.NETWORK)
    job = work.submit(rows(50), ["n"])
    grants = work.claim(50)
    counts, count = [0], session.queue.outcomes

    def counted(id: JobId, *, consistent: bool = False) -> Mapping[Outcome, int]:
        counts[0] += not consistent
        outcomes = count(id, consistent=consistent)
        return {outcome: 20_000 * tasks for outcome, tasks in outcomes.items()} if counts[0] == 1 else outcomes

    session.queue.outcomes = counted  # type: ignore[method-assign]
    ticks = follow(session, job)
    first = next(ticks)
    next(ticks)
    assert (first.tasks[TaskState.CLAIMED], counts) == (1_000_000, [1])
    for grant in grants:
        work.end(grant)
    assert [tick.ended for tick in ticks][-1]
    assert counts == [2]


@pytest.mark.parametrize(
    ("reach", "tasks", "counting_s", "pause_s"),
    [(Reach.HOST, 10**6, 0.2, 1.0), (Reach.NETWORK, 10**6, 0.2, 100.0), (Reach.NETWORK, 100, 0.2, 1.0)],
)
def test_the_pause_after_a_count_is_what_it_took_or_what_it_cost(
    reach: Reach, tasks: int, counting_s: float, pause_s: float
) -> None:
    assert pause_after(reach, {Outcome(TaskState.PENDING): tasks}, counting_s) == pytest.approx(pause_s)


def test_a_job_that_is_removed_ends_the_waiting(session: Session, work: Work) -> None:
    job = work.submit(rows(2), ["n"])
    ticks = follow(session, job)
    next(ticks)
    session.queue.forget(job)
    with pytest.raises(NotFound):
        list(ticks)


def test_an_incomplete_job_is_waited_for(session: Session, work: Work) -> None:
    job = work.submit(rows(4), ["n"], written=2)
    ticks = follow(session, job)
    assert next(ticks).status is JobStatus.INCOMPLETE
    ticks.close()  # type: ignore[attr-defined]


def test_the_expired_claim_of_a_killed_job_is_ended_by_the_watcher(session: Session, work: Work) -> None:
    job = work.submit(lease_s=0.5)
    work.claim()
    session.queue.cancel_job(job)
    ticks = list(follow(session, job))
    assert ticks[-1].status is JobStatus.CANCELLED


def test_tending_is_asked_every_half_second_and_its_error_ends_the_waiting(session: Session, work: Work) -> None:
    job = work.submit()
    asked: list[float] = []

    def tend(job: Job, outcomes: Mapping[Outcome, int], nodes: Nodes) -> None:
        asked.append(time.monotonic())
        if len(asked) == 3:
            raise NotFound("enough")

    with pytest.raises(NotFound, match="enough"):
        list(follow(session, job, tend=tend))
    assert all(later - earlier > 0.4 for earlier, later in pairwise(asked))


def test_the_nodes_are_looked_at_once_for_a_look_with_tending_too(session: Session, work: Work) -> None:
    job, looks = work.submit(), 0

    class Counted(FakeProvider):
        def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
            nonlocal looks
            looks += 1
            return super().observe(pool)

    provider = Counted()
    session.provider = provider  # type: ignore[misc]
    provider.launch(node_request(session, pool_of_job(session, job)), {NodeName(f"{job.pool}-1"): 1})
    tending, tended = Tending(session, lambda sentence: None), 0

    def tend(job: Job, outcomes: Mapping[Outcome, int], nodes: Nodes) -> None:
        nonlocal tended
        tended += 1
        tending(job, outcomes, nodes)
        if tended == 2:
            raise NotFound("enough")

    with pytest.raises(NotFound, match="enough"):
        list(follow(session, job, tend=tend))
    assert looks == 1 + tended


# -- output -----------------------------------------------------------------------------------------------------------


def tick_of(session: Session, job: Job, *, ended: bool = False) -> Tick:
    """The first tick of a new waiting."""
    tick = next(follow(session, session.queue.refresh(job)))
    return Tick(job=tick.job, outcomes=tick.outcomes, nodes=tick.nodes, elapsed_s=0.0, ended=ended or tick.ended)


def printed(feed: OutputFeed, tick: Tick) -> list[tuple[int, bytes]]:
    return [(piece.index, piece.content) for piece in feed.poll(tick)]


def test_output_comes_while_a_task_runs_and_none_of_it_twice(session: Session, work: Work) -> None:
    job = work.submit()
    feed = OutputFeed(session, job)
    assert printed(feed, tick_of(session, job)) == []
    grant = work.claim()[0]
    log = LogWriter(session.store, grant.task.id, grant.attempt)
    log.append(b"one\n")
    assert printed(feed, tick_of(session, job)) == [(1, b"one\n")]
    log.append(b"two\n")
    work.end(grant, stdout=b"one\ntwo\nthree\n")
    log.delete()
    assert b"".join(content for _, content in printed(feed, tick_of(session, job))) == b"two\nthree\n"
    assert printed(feed, tick_of(session, job, ended=True)) == []


def test_every_task_of_a_large_job_is_printed_once(session: Session, work: Work) -> None:
    count = 3 * PAGE + 7
    job = work.submit(rows(count), ["n"])
    feed = OutputFeed(session, job)
    seen: list[tuple[int, bytes]] = []
    while session.queue.refresh(job).open:
        for grant in work.claim(20):
            work.end(grant, stdout=f"output {grant.task.id.index}\n".encode())
        seen += printed(feed, tick_of(session, job))
    assert sorted(seen) == [(n, f"output {n}\n".encode()) for n in range(1, count + 1)]


def test_a_retried_task_shows_the_output_of_both_attempts(session: Session, work: Work) -> None:
    job = work.submit(retries=1)
    feed = OutputFeed(session, job)
    grant = work.claim()[0]
    seen = printed(feed, tick_of(session, job))
    work.end(grant, Exit(code=1), stdout=b"first\n")
    seen += printed(feed, tick_of(session, job))
    session.queue.reset(job, [1])
    work.end(work.claim()[0], stdout=b"second\n")
    seen += printed(feed, tick_of(session, job, ended=True))
    assert seen == [(1, b"first\n"), (1, b"second\n")]


def test_a_task_that_waits_among_many_is_not_looked_at_for_ever(session: Session, work: Work) -> None:
    job = work.submit(rows(2000), ["n"])
    work.claim(1)
    tick = tick_of(session, job)
    stale = Tick(job=tick.job, outcomes={Outcome(TaskState.CLAIMED): 5}, nodes=tick.nodes, elapsed_s=0.0)
    feed, asked = OutputFeed(session, job), [0]
    tasks_at = session.queue.tasks_at

    def counted(job, indexes):  # type: ignore[no-untyped-def]
        asked[0] += 1
        return tasks_at(job, indexes)

    session.queue.tasks_at = counted  # type: ignore[method-assign]
    assert printed(feed, stale) == []
    assert asked[0] <= 16
