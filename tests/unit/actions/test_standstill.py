"""Whoever waits for a job of which nothing runs is told why, once for each reason."""

from __future__ import annotations

import pytest

from kubeq.actions import standstill
from kubeq.actions.launching import Nodes
from kubeq.actions.session import Session
from kubeq.actions.standstill import Standstill
from kubeq.actions.waiting import Tick
from kubeq.core.model import Exit, Job
from kubeq.core.resources import Resources
from kubeq.errors import BackendError
from tests.jobs import FakeClock, Work


def tick(session: Session, job: Job) -> Tick:
    return Tick(job=job, outcomes=session.queue.outcomes(job.id), nodes=Nodes(), elapsed_s=1.0)


@pytest.fixture
def told(session: Session, clock: FakeClock) -> Standstill:
    return Standstill(session)


def test_the_reason_is_told_when_nothing_has_run_for_a_while_and_not_again(
    session: Session, work: Work, clock: FakeClock, told: Standstill
) -> None:
    job = work.submit()
    assert [told.news(tick(session, job)) for _ in range(3)] == [None] * 3
    clock.advance(9.0)
    assert told.news(tick(session, job)) is None
    clock.advance(1.5)
    assert told.news(tick(session, job)) == f"no node yet; kubeq addnodes 1 {job.id} starts one"
    for _ in range(5):
        clock.advance(11.0)
        assert told.news(tick(session, job)) is None


def test_another_reason_is_told_and_how_long_it_takes_still_is_none(
    session: Session, work: Work, clock: FakeClock, told: Standstill
) -> None:
    job = work.submit(retries=3)
    told.news(tick(session, job))
    clock.advance(11.0)
    assert "no node yet" in str(told.news(tick(session, job)))
    work.report_node(total=Resources(cpu=0.5))
    clock.advance(11.0)
    assert "too big for any node" in str(told.news(tick(session, job)))


def test_nothing_is_said_while_something_runs_and_the_same_is_told_anew_after_it(
    session: Session, work: Work, clock: FakeClock, told: Standstill
) -> None:
    job = work.submit([["1"], ["2"]], ["x"])
    told.news(tick(session, job))
    (grant,) = work.claim()
    clock.advance(11.0)
    assert told.news(tick(session, job)) is None
    work.end(grant, Exit(code=0))
    assert told.news(tick(session, job)) is None
    clock.advance(11.0)
    assert "no node yet" in str(told.news(tick(session, job)))


def test_a_queue_that_cannot_say_why_ends_no_waiting(
    session: Session, work: Work, clock: FakeClock, told: Standstill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise BackendError("the queue is away")

    job = work.submit()
    told.news(tick(session, job))
    clock.advance(11.0)
    seen = tick(session, job)
    monkeypatch.setattr(standstill, "summarize", away)
    assert told.news(seen) is None
