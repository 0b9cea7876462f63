"""How jobs stand, and why what waits is waiting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from kubeq.actions.session import Session
from kubeq.actions.status import JobSummary, situation_of, summarize, why_task
from kubeq.core.machines import Machine
from kubeq.core.model import Exit, GoneReason, Job, JobStatus, NodeName, NodeState, PoolId, TaskState
from kubeq.core.resources import Resources
from kubeq.queue.base import Cursor, Key, Page, Partition, Row
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from tests.jobs import NODE, FakeClock, MemorySession, Work, session_in


def summary(session: Session, job: Job) -> JobSummary:
    return summarize(session, [session.queue.refresh(job)])[0]


def why(session: Session, job: Job, index: int) -> str | None:
    job = session.queue.refresh(job)
    return why_task(session.queue.tasks_at(job.id, [index])[0], situation_of(session, job))


def rows(count: int) -> list[tuple[str]]:
    return [(str(n),) for n in range(count)]


def test_counts_reasons_and_status_of_a_finished_job(work: Work, session: Session) -> None:
    job = work.submit(rows(4), ["n"])
    work.run(2), work.run(1, Exit(code=3)), work.run(1, Exit(signal=9))
    found = summary(session, job)
    assert found.status is JobStatus.FAILED
    assert found.tasks[TaskState.SUCCEEDED] == 2 and found.tasks[TaskState.FAILED] == 2
    assert found.reasons == {"exit": 1, "signal": 1}
    assert found.because is None and found.eta_s is None


def test_a_job_whose_submission_was_interrupted_says_how_far_it_came(work: Work, session: Session) -> None:
    job = work.submit(rows(10), ["n"], written=4)
    found = summary(session, job)
    assert (found.status, found.because) == (JobStatus.INCOMPLETE, "incomplete: 4 of 10 tasks were submitted")


def test_without_a_node_a_job_waits_for_one(work: Work, session: Session) -> None:
    job = work.submit()
    assert summary(session, job).because == f"no node yet; kubeq addnodes 1 {job.id} starts one"
    assert why(session, job, 1) == f"no node yet; kubeq addnodes 1 {job.id} starts one"


def test_a_job_whose_machines_are_gone_says_how_the_last_one_ended(work: Work, session: Session) -> None:
    job = work.submit()
    machine = Machine(type="m.small", zone="eu-1a", spot=True)
    work.report_node(state=NodeState.REQUESTED, machine=machine, total=None)
    assert summary(session, job).because == "its node is starting"
    work.report_node(
        state=NodeState.GONE, machine=machine, gone=GoneReason.NEVER_STARTED, note="no capacity", ended_at=1.0
    )
    told = f"the last, {NODE}, ended: no capacity"
    assert summary(session, job).because == f"no node ({told}); kubeq addnodes 1 {job.id} starts one"


def test_a_node_that_stopped_reporting_is_not_counted_on(work: Work, session: Session) -> None:
    job = work.submit()
    work.report_node()
    assert summary(session, job).because == "waiting to be claimed"
    work.clock.advance(600)
    assert summary(session, job).because == f"no node yet; kubeq addnodes 1 {job.id} starts one"


def test_a_node_that_leaves_is_not_counted_on(work: Work, session: Session) -> None:
    job = work.submit()
    work.report_node(state=NodeState.DRAINING)
    assert summary(session, job).because == f"no node yet; kubeq addnodes 1 {job.id} starts one"


def test_a_task_too_big_for_every_node_says_what_it_needs_and_what_there_is(work: Work, session: Session) -> None:
    job = work.submit(resources=Resources(cpu=64))
    work.report_node()
    work.report_node(name=NodeName("0123456789ab-2"), total=Resources(cpu=4.0, memory=None))
    assert summary(session, job).because == "too big for any node: it needs cpu=64, and the largest has cpu=4"


def test_a_job_that_no_node_can_run_now_says_what_the_first_one_says(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    work.report_node(note="the image mine:1 is not on this machine")
    expected = "no node can run it now: 0123456789ab-1: the image mine:1 is not on this machine"
    assert summary(session, job).because == why(session, job, 2) == expected
    work.report_node(name=NodeName("0123456789ab-2"))
    assert summary(session, job).because == "waiting to be claimed"


def test_a_task_waits_for_a_slot_while_others_run(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    work.report_node()
    work.claim(2)
    assert summary(session, job).because == "waiting for a slot (2 running)"
    assert why(session, job, 3) == "waiting for a slot (2 running)"
    assert why(session, job, 1) is None


def test_a_job_whose_cores_other_jobs_hold_says_so(work: Work, session: Session) -> None:
    other = work.submit(rows(2), ["n"], pool=PoolId("ba9876543210"))
    job = work.submit()
    work.report_node()
    assert summary(session, job).because == "waiting to be claimed"
    grants = work.claim(2, pool=other.pool)
    expected = "waiting for a free slot: other jobs have taken this machine's cores"
    assert summary(session, job).because == why(session, job, 1) == expected
    work.end(grants[0])
    assert summary(session, job).because == "waiting to be claimed"


def test_a_failed_task_backs_off_and_says_until_when(work: Work, session: Session) -> None:
    job = work.submit(retries=3)
    work.report_node()
    work.run(1, Exit(code=1))
    expected = "backing off after a failure until 03:04:06Z (in 1.0s)"
    assert summary(session, job).because == expected
    assert why(session, job, 1) == expected


def test_a_paused_job_says_so(work: Work, session: Session) -> None:
    job = work.submit(rows(2), ["n"])
    session.queue.pause(job)
    found = summary(session, job)
    assert (found.status, found.because) == (JobStatus.PAUSED, f"paused; kubeq resume {job.id} goes on")
    assert why(session, job, 2) == found.because


def test_a_paused_job_says_what_still_runs(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    work.claim(1)
    session.queue.pause(job)
    assert summary(session, job).because == f"paused; 1 task still running; kubeq resume {job.id} goes on"


def test_a_killed_job_says_what_still_stops(work: Work, session: Session) -> None:
    job = work.submit(rows(3), ["n"])
    work.claim(1)
    session.queue.cancel_job(job)
    assert summary(session, job).because == "killed; 1 task still stopping"
    assert why(session, job, 1) == "killed, stopping"
    assert why(session, job, 2) is None


def test_a_claim_whose_lease_ended_says_that_its_node_is_silent(work: Work, session: Session) -> None:
    job = work.submit()
    work.claim(1)
    work.clock.advance(121)
    assert why(session, job, 1) == "its node is silent; another one takes it over"


def test_the_time_left_follows_from_how_long_the_finished_ones_took(work: Work, session: Session) -> None:
    job = work.submit(rows(100), ["n"])
    for _ in range(5):
        grants = work.claim(2)
        work.clock.advance(10)
        for grant in grants:
            work.end(grant, publish=False)
    work.claim(2)
    assert summary(session, job).eta_s == 90 * 10 / 2


def test_with_too_few_finished_tasks_no_time_left_is_guessed(work: Work, session: Session) -> None:
    job = work.submit(rows(100), ["n"])
    work.run(2, publish=False)
    work.claim(2)
    assert summary(session, job).eta_s is None


class CountedTable(MemoryTable):
    """Counts the rows that are read one by one or listed."""

    rows_read = 0

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        self.rows_read += len(keys)
        return super().get(keys)

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        page = super().list(partition, after, limit)
        self.rows_read += len(page.rows)
        return page


class CountedSession(MemorySession):
    @cached_property
    def queue(self) -> Queue:
        return Queue(CountedTable(), self.clock)


def test_the_status_of_a_huge_job_reads_no_more_rows_than_that_of_a_small_one(tmp_path: Path, clock: FakeClock) -> None:
    read = []
    for total in (100, 20_000):
        session = session_in(tmp_path, clock, CountedSession)
        work = Work(session, clock)
        job = session.queue.refresh(work.submit(rows(total), ["n"]))
        work.run(80, publish=False), work.claim(1)
        table = session.queue._table
        assert isinstance(table, CountedTable)
        table.rows_read = 0
        assert summarize(session, [job])[0].status is JobStatus.RUNNING
        read.append(table.rows_read)
    assert read[0] == read[1] <= 100
