"""How the report of a job looks: to people, in a mail, and as the JSON that hooks get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubeq.actions.reporting import Durations, Failure, JobReport, NodeWork
from kubeq.cli.output import columns
from kubeq.cli.shown import iso, moment, one_line
from kubeq.core.model import Ending, TaskState
from kubeq.core.quantities import format_duration

NODE_HEADER = ("node", "host", "succeeded", "failed", "other", "busy")


@dataclass(frozen=True, slots=True)
class ReportView:
    """The report, in every mode."""

    report: JobReport

    def text(self) -> Iterable[str]:
        report, job = self.report, self.report.job
        ended = f"ended {moment(job.closed_at)}" if job.closed_at is not None else "not ended yet"
        took = f", after {format_duration(job.closed_at - job.submitted_at)}" if job.closed_at is not None else ""
        yield f"{job.name} ({job.id}): {report.status}"
        yield f"submitted {moment(job.submitted_at)} by {job.user} on {job.host}; {ended}{took}"
        counts = [f"{report.tasks[state]:,} {state}" for state in TaskState if report.tasks[state]]
        yield f"tasks: {', '.join(counts)} of {job.total:,}; {report.repeated:,} attempts were repeated"
        if report.reasons:
            yield "why: " + ", ".join(f"{number:,} {reason}" for reason, number in sorted(report.reasons.items()))
        if report.durations is not None:
            yield from _duration_lines(report.durations)
        if report.nodes:
            yield ""
            yield from columns(NODE_HEADER, [_node_line(node) for node in report.nodes])
        for failure in report.failures:
            yield ""
            yield from _failure_lines(failure)
        left = report.tasks[TaskState.FAILED] - len(report.failures)
        if left:
            yield ""
            yield f"and {left:,} more that failed: kubeq list {job.id} --failed"

    def json(self) -> Mapping[str, Any]:
        report, job = self.report, self.report.job
        ended = job.closed_at
        return {
            "job": job.id,
            "name": job.name,
            "status": report.status,
            "user": job.user,
            "host": job.host,
            "submitted_at": iso(job.submitted_at),
            "ended_at": iso(ended),
            "elapsed_s": None if ended is None else ended - job.submitted_at,
            "total": job.total,
            "tasks": {str(state): report.tasks[state] for state in TaskState},
            "reasons": dict(report.reasons),
            "repeated": report.repeated,
            "failures": [_failure_record(failure) for failure in report.failures],
            "nodes": [_node_record(node) for node in report.nodes],
            "durations": report.durations and _duration_record(report.durations),
            "results_url": job.results_url,
        }

    def quiet(self) -> Iterable[str]:
        return [self.report.job.id]


def _duration_lines(found: Durations) -> Iterator[str]:
    times = (found.least_s, found.median_s, found.most_s, found.total_s)
    least, median, most, total = map(format_duration, times)
    yield f"a task ran for {least} to {most}, half of them for at most {median}; {total} all together"
    yield "longest: " + ", ".join(f"{task} {format_duration(seconds)}" for task, seconds in found.longest)


def _duration_record(found: Durations) -> dict[str, Any]:
    return {
        "total_s": found.total_s,
        "least_s": found.least_s,
        "median_s": found.median_s,
        "most_s": found.most_s,
        "longest": [{"task": str(task), "seconds": seconds} for task, seconds in found.longest],
    }


def _node_line(node: NodeWork) -> list[object]:
    succeeded, failed = node.attempts[Ending.SUCCEEDED], node.attempts[Ending.FAILED]
    other = node.attempts.total() - succeeded - failed
    return [node.name, node.host or "-", succeeded, failed, other, format_duration(node.busy_s)]


def _node_record(node: NodeWork) -> dict[str, Any]:
    return {
        "name": node.name,
        "host": node.host,
        "started_at": iso(node.started_at),
        "ended_at": iso(node.ended_at),
        "attempts": {str(ending): number for ending, number in sorted(node.attempts.items())},
        "busy_s": node.busy_s,
    }


def _failure_lines(failure: Failure) -> Iterator[str]:
    where = f" on {failure.attempt.node}" if failure.attempt is not None else ""
    yield f"{failure.task} failed{where}: {one_line(failure.message or failure.reason, 300)}"
    yield from (f"  {line}" for line in failure.lines)


def _failure_record(failure: Failure) -> dict[str, Any]:
    attempt = failure.attempt
    exit = attempt.exit if attempt is not None else None
    return {
        "task": str(failure.task),
        "index": failure.task.index,
        "reason": failure.reason,
        "message": failure.message,
        "attempt": attempt.number if attempt is not None else None,
        "node": attempt.node if attempt is not None else None,
        "exit": exit and {"code": exit.code, "signal": exit.signal, "out_of_memory": exit.out_of_memory},
        "lines": list(failure.lines),
    }
