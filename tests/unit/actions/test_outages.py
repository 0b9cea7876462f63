"""What is told of a service that does not answer while somebody waits, and that the waiting goes on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest

from kubeq.actions.outages import TELL_AFTER_S, TELL_EVERY_S, Announcer, Asked
from kubeq.actions.session import Session
from kubeq.actions.waiting import follow
from kubeq.core.model import JobId, NodeName, PoolId, Reach, TaskState
from kubeq.errors import BackendError
from kubeq.nodes.base import NodeCapabilities, Observation
from kubeq.queue.base import Tally
from kubeq.queue.memory import MemoryTable
from tests.jobs import FakeClock, Work, session_in
from tests.providers import FakeProvider
from tests.unit.actions.test_waiting import RunningClock

AWAY = BackendError("the table kubeq cannot be reached", transient=True, waited=True)


class FailingTable(MemoryTable):
    """A queue that raises what it is told to."""

    raises: BackendError | None = None

    def __init__(self) -> None:
        super().__init__()
        self.once: set[str] = set()
        """What is away the next time that it is asked for."""

    def _perhaps(self, what: str) -> None:
        if what in self.once:
            self.once.remove(what)
            raise AWAY

    def count(self, job: JobId, consistent: bool) -> Mapping[Tally, int]:
        if self.raises is not None:
            raise self.raises
        if consistent:
            self._perhaps("sure count")
        return super().count(job, consistent)

    def wait(self, seconds: float) -> None:
        self._perhaps("wait")
        super().wait(seconds)


class FarProvider(FakeProvider):
    """One whose nodes are looked at from a thread; it raises what it is told to."""

    capabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=False, look_every_s=0.01)
    raises: BackendError | None = None

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        if self.raises is not None:
            raise self.raises
        return super().observe(pool)


def test_an_outage_is_told_once_it_lasts_seldom_again_and_when_it_is_over() -> None:
    clock, asked = FakeClock(), Asked("the queue")
    announcer = Announcer(clock)

    def news() -> list[str]:
        return list(announcer.news([asked.outage] if asked.outage else []))

    asked.failed(AWAY, clock.monotonic())
    assert news() == []
    clock.advance(TELL_AFTER_S)
    asked.failed(BackendError("nobody is at home", transient=True), clock.monotonic())
    (told,) = news()
    assert told.startswith("the queue has not answered since 03:04:05Z (nobody is at home); ")
    assert told.endswith("what runs on the nodes goes on")
    clock.advance(TELL_EVERY_S - 1)
    assert news() == []
    clock.advance(1)
    assert len(news()) == 1
    asked.answered()
    assert news() == ["the queue answers again, after 10m10s"]
    assert news() == []


def test_what_was_over_before_anybody_had_to_know_is_not_told() -> None:
    clock, asked = FakeClock(), Asked("the queue")
    announcer = Announcer(clock)
    asked.failed(AWAY, clock.monotonic())
    assert asked.outage is not None and list(announcer.news([asked.outage])) == []
    asked.answered()
    clock.advance(TELL_AFTER_S)
    assert list(announcer.news([])) == []


@pytest.fixture
def session(tmp_path: Path) -> Session:
    session = session_in(tmp_path, RunningClock())
    session.table = FailingTable()  # type: ignore[misc]
    session.provider = FarProvider()  # type: ignore[misc]
    return session


def test_a_queue_that_falls_silent_is_waited_for_and_the_end_is_seen(session: Session) -> None:
    table, work = session.table, Work(session, RunningClock())
    assert isinstance(table, FailingTable)
    ticks = follow(session, work.submit())
    assert not next(ticks).stale
    table.raises = AWAY
    silent = next(tick for tick in islice(ticks, 100) if tick.stale)
    assert [(outage.what, outage.why) for outage in silent.outages] == [("the queue", AWAY.message)]
    assert silent.tasks[TaskState.PENDING] == 1, "as it was seen last"
    table.raises = None
    work.run()
    last = list(islice(ticks, 100))[-1]
    assert (last.ended, last.stale, last.tasks[TaskState.SUCCEEDED]) == (True, False, 1)


@pytest.mark.parametrize("error", [AWAY, BackendError("the table kubeq does not exist")])
def test_a_queue_that_never_answered_or_refuses_ends_the_waiting(session: Session, error: BackendError) -> None:
    table, job = session.table, Work(session, RunningClock()).submit()
    assert isinstance(table, FailingTable)
    ticks = follow(session, job)
    if not error.transient:
        next(ticks)
    table.raises = error
    with pytest.raises(BackendError, match="the table kubeq"):
        list(islice(ticks, 100))


def test_a_cloud_that_falls_silent_is_told_of_while_the_job_is_followed(session: Session) -> None:
    provider, work = session.provider, Work(session, RunningClock())
    assert isinstance(provider, FarProvider)
    provider.raises = BackendError("EC2 cannot be reached", transient=True)
    ticks = follow(session, work.submit())
    silent = next(tick for tick in islice(ticks, 100) if tick.outages)
    assert (silent.outages[0].why, silent.stale) == ("EC2 cannot be reached", False)
    provider.raises = None
    assert next(tick for tick in islice(ticks, 100) if not tick.outages)
    work.run()
    assert list(islice(ticks, 100))[-1].ended


def test_a_queue_that_is_away_just_after_the_last_task_has_ended_does_not_end_the_waiting(session: Session) -> None:
    table, work = session.table, Work(session, RunningClock())
    assert isinstance(table, FailingTable)
    ticks = follow(session, work.submit())
    next(ticks)
    work.run()
    table.once = {"wait", "sure count"}
    seen = list(islice(ticks, 100))
    assert table.once == set()
    assert any(tick.stale for tick in seen[:-1])
    assert (seen[-1].ended, seen[-1].stale, seen[-1].tasks[TaskState.SUCCEEDED]) == (True, False, 1)


def test_the_claims_of_a_dead_node_are_ended_at_the_next_look_when_the_queue_was_away_at_the_first(
    session: Session,
) -> None:
    table, provider, work = session.table, FakeProvider(), Work(session, RunningClock())
    assert isinstance(table, FailingTable)
    session.provider = provider  # type: ignore[misc]
    job = work.submit()
    name = NodeName(f"{job.pool}-1")
    work.claim(1, node=name)
    ticks = follow(session, job)
    next(ticks)
    provider.nodes[name] = (job.pool, Observation(name=name, alive=False))
    table.once = {"sure count"}
    assert any(tick.stale for tick in islice(ticks, 100)) and table.once == set()
    assert any(not tick.tasks[TaskState.CLAIMED] for tick in islice(ticks, 100))


def test_nodes_that_cannot_be_looked_at_from_here_for_a_while_are_not_a_silence_of_the_queue(session: Session) -> None:
    class NearProvider(FarProvider):
        capabilities = FakeProvider.capabilities

    provider, work = NearProvider(), Work(session, RunningClock())
    session.provider = provider  # type: ignore[misc]
    ticks = follow(session, work.submit())
    next(ticks)
    provider.raises = BackendError("the engine is busy", transient=True)
    silent = next(tick for tick in islice(ticks, 100) if tick.outages)
    assert (silent.outages[0].why, silent.stale) == ("the engine is busy", False)
