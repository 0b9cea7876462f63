"""What is known of a job: which nodes were there while it was open."""

from __future__ import annotations

import pytest

from kubeq.actions.facts import nodes_during
from kubeq.actions.launching import SEEN_RECENTLY_S
from kubeq.actions.session import Session
from kubeq.core.model import Job, NodeName, NodeState, PoolId
from kubeq.core.requests import Requests
from tests.jobs import FakeClock, Work

SOME = Requests(queue={"read": 1}, store={"put": 1})


@pytest.fixture
def job(work: Work, clock: FakeClock) -> Job:
    """A job that was open from one hour after the beginning of time to two hours after it."""
    clock.advance(3600)
    job = work.submit()
    clock.advance(3600)
    work.run(1)
    return job


def names(session: Session, job: Job) -> list[str]:
    return [node.name for node in nodes_during(session, session.queue.refresh(job))]


def test_nodes_that_were_there_and_tell_their_requests_are_found(
    work: Work, session: Session, clock: FakeClock, job: Job
) -> None:
    work.report_node(name=NodeName("there"), requests=SOME)
    work.report_node(name=NodeName("silent"))
    work.report_node(name=NodeName("other"), pool=PoolId("another"), requests=SOME)
    clock.advance(60)
    work.report_node(name=NodeName("late"), requests=SOME)
    assert names(session, job) == ["there"]


def test_nodes_that_had_left_before_the_job_came_are_not_among_them(
    work: Work, session: Session, clock: FakeClock
) -> None:
    work.report_node(name=NodeName("left"), state=NodeState.GONE, ended_at=clock.now(), requests=SOME)
    work.report_node(name=NodeName("died"), requests=SOME)
    clock.advance(SEEN_RECENTLY_S - 1)
    soon = work.submit()
    clock.advance(2)
    later = work.submit()
    work.report_node(name=NodeName("busy"), state=NodeState.GONE, ended_at=clock.now(), requests=SOME)
    assert names(session, soon) == ["busy", "died"]
    assert names(session, later) == ["busy"]
