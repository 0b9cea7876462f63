"""The report of a job says what came of it, from its records alone."""

from __future__ import annotations

from kubeq.actions.reporting import report_of
from kubeq.actions.session import Session
from kubeq.cli.views_report import ReportView
from kubeq.core.model import Ending, Exit, JobStatus, NodeName, TaskState
from tests.jobs import NODE, FakeClock, Work


def test_a_job_is_summed_up_with_its_failures_its_nodes_and_its_times(
    session: Session, work: Work, clock: FakeClock
) -> None:
    job = work.submit([[str(number)] for number in range(6)], ["x"], command=("work", "{x}"))
    other = NodeName("0123456789ab-2")
    work.report_node()
    said = b"".join(b"line %d\n" % number for number in range(9))
    for code, node in ((0, NODE), (3, other), (0, other), (3, NODE), (4, other)):
        (grant,) = work.claim(node=node)
        clock.advance(2.0)
        work.end(grant, Exit(code=code), stdout=said)
    report = report_of(session, job, 2)
    assert report.status is JobStatus.QUEUED
    states = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.PENDING)
    assert [report.tasks[state] for state in states] == [2, 3, 1]
    assert (report.reasons, report.repeated) == ({"exit": 3}, 0)
    assert [failure.task.index for failure in report.failures] == [2, 4]
    assert report.failures[0].lines == tuple(f"line {number}" for number in range(4, 9))
    assert {node.name: dict(node.attempts) for node in report.nodes} == {
        NODE: {Ending.SUCCEEDED: 1, Ending.FAILED: 1},
        other: {Ending.SUCCEEDED: 1, Ending.FAILED: 2},
    }
    assert {node.name: (node.host, node.busy_s) for node in report.nodes} == {NODE: ("engine", 5.0), other: (None, 7.5)}
    assert report.durations is not None
    assert (report.durations.total_s, report.durations.median_s, len(report.durations.longest)) == (12.5, 2.5, 5)
    lines = list(ReportView(report).text())
    assert lines[2:4] == ["tasks: 1 pending, 2 succeeded, 3 failed of 6; 0 attempts were repeated", "why: 3 exit"]
    assert f"{job.id}/2 failed on {other}: exit code 3" in lines
    assert lines[-1] == f"and 1 more that failed: kubeq list {job.id} --failed"


def test_it_can_be_made_again_later_and_ends_with_the_job(session: Session, work: Work, clock: FakeClock) -> None:
    job = work.submit([["1"], ["2"]], ["x"], retries=1)
    work.run(exit=Exit(code=1))
    clock.advance(3600)
    work.run(2)
    document = ReportView(report_of(session, job)).json()
    assert (document["status"], document["tasks"]["succeeded"], document["repeated"]) == ("succeeded", 2, 1)
    assert (document["elapsed_s"], document["failures"]) == (3600.0, [])
    clock.advance(86400)
    assert ReportView(report_of(session, job)).json() == document


def test_a_job_of_which_nothing_ran_has_a_report_too(session: Session, work: Work) -> None:
    document = ReportView(report_of(session, work.submit())).json()
    assert (document["durations"], document["nodes"], document["ended_at"]) == (None, [], None)
