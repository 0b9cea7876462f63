"""How the answer of `status` looks: every job a line, or one job with its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeq.actions.nodes import NodeFacts, died_since
from kubeq.actions.spending import Spent
from kubeq.actions.status import JobSummary
from kubeq.cli.output import columns
from kubeq.cli.shown import ago, cell, count, iso, moment, one_line, pairs
from kubeq.cli.views_nodes import NodesView
from kubeq.cli.views_tasks import TasksView
from kubeq.core.model import JobStatus, Node, NodeState, Reason, TaskState
from kubeq.core.outcome import signal_name
from kubeq.core.quantities import format_duration
from kubeq.queue.rows import Outcome

HEADER = ("id", "name", "status", "tasks", "succeeded", "failed", "cancelled", "running", "pending", "age", "because")
FIELDS = (
    "id", "name", "status", "submitted_at", "ended_at", "total", "pending", "claimed", "succeeded", "failed",
    "cancelled", "because", "eta_s", "results_url",
)  # fmt: skip
ENDED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
SHOWN = {TaskState.CLAIMED: "running"}
"""What people call a state, where that is not its name."""


@dataclass(frozen=True, slots=True)
class JobsView:
    """Jobs, a line each; `now` is what ages are counted to. `tasks` of single jobs stand below where asked for."""

    jobs: Sequence[JobSummary]
    now: float
    tasks: Sequence[TasksView] = ()

    def text(self) -> Iterable[str]:
        if not self.jobs:
            yield "no jobs"
            return
        yield from columns(HEADER, [self._line(job) for job in self.jobs])
        for view in self.tasks:
            yield ""
            yield f"tasks of {view.job}"
            yield from view.text()

    def json(self) -> Mapping[str, Any]:
        shown = {view.job: view.json()["tasks"] for view in self.tasks}
        jobs = [job_record(job) for job in self.jobs]
        return {"jobs": [job | {"task_records": shown[job["id"]]} if job["id"] in shown else job for job in jobs]}

    def quiet(self) -> Iterable[str]:
        if self.tasks:
            return [id for view in self.tasks for id in view.quiet()]
        return [job.job.id for job in self.jobs]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        if self.tasks:
            header = list(dict.fromkeys(name for view in self.tasks for name in view.table()[0]))
            records = [dict(zip(view.table()[0], row, strict=True)) for view in self.tasks for row in view.table()[1]]
            return header, ([record.get(name, "") for name in header] for record in records)
        flat = ((record := job_record(job)) | record["tasks"] for job in self.jobs)
        return FIELDS, ([cell(record[name]) for name in FIELDS] for record in flat)

    def _line(self, job: JobSummary) -> Sequence[object]:
        tasks = job.tasks
        left = None if job.eta_s is None else f"about {format_duration(job.eta_s)} left"
        return (
            job.job.id,
            job.job.name,
            job.status,
            f"{job.job.total:,}",
            *(
                f"{tasks[state]:,}" if tasks[state] else "-"
                for state in (
                    TaskState.SUCCEEDED,
                    TaskState.FAILED,
                    TaskState.CANCELLED,
                    TaskState.CLAIMED,
                    TaskState.PENDING,
                )
            ),
            format_duration(max(0.0, self.now - job.job.submitted_at)),
            one_line("; ".join(part for part in (job.because, left) if part), 100),
        )


@dataclass(frozen=True, slots=True)
class JobView:
    """One job: what it came to, why it is not further, who works on it."""

    job: JobSummary
    nodes: Sequence[NodeFacts]
    now: float
    tasks: TasksView | None = None

    def text(self) -> Iterable[str]:
        job = self.job
        yield f"{job.job.name} ({job.job.id}): {job.status}"
        lines = [("tasks", f"{job.job.total:,}: {counts_text(job.outcomes)}")]
        if job.because is not None:
            lines.append(("because", job.because))
        if job.eta_s is not None:
            lines.append(("left", f"about {format_duration(job.eta_s)}"))
        lines.append(("submitted", f"{moment(job.job.submitted_at)}, {ago(job.job.submitted_at, self.now)}"))
        if job.job.closed_at is not None:
            took = format_duration(job.job.closed_at - job.job.submitted_at)
            lines.append(("ended", f"{moment(job.job.closed_at)}, after {took}"))
        if job.spent is not None:
            lines.append(("spent", spent_text(job.spent)))
        lines.append(("results", job.results_url))
        yield from pairs(lines)
        nodes = [facts for facts in self.nodes if facts.node.state is not NodeState.GONE or self._may_run(facts.node)]
        if nodes and self.job.status not in ENDED:
            yield ""
            yield from NodesView(nodes, self.now, numbered=True).text()
        if self.tasks is not None:
            yield ""
            yield from self.tasks.text()

    def _may_run(self, node: Node) -> bool:
        """Whether tasks that count as running may be those of a node that has died."""
        return bool(self.job.tasks[TaskState.CLAIMED]) and died_since(self.job.job, node)

    def json(self) -> Mapping[str, Any]:
        record = job_record(self.job)
        if self.tasks is not None:
            record["task_records"] = self.tasks.json()["tasks"]
        return {"jobs": [record], "nodes": NodesView(self.nodes, self.now).json()["nodes"]}

    def quiet(self) -> Iterable[str]:
        return [self.job.job.id] if self.tasks is None else self.tasks.quiet()

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return JobsView([self.job], self.now, () if self.tasks is None else (self.tasks,)).table()


def spent_text(spent: Spent) -> str:
    """What machines cost, in words."""
    parts = [f"${spent.dollars:,.2f}"]
    if spent.per_hour:
        parts.append(f"${spent.per_hour:,.4g} more an hour")
    if spent.unknown:
        parts.append(f"besides {count(spent.unknown, 'machine')} of unknown price")
    return ", ".join(parts)


def job_record(summary: JobSummary) -> dict[str, Any]:
    """A job as JSON has it."""
    job = summary.job
    return {
        "id": job.id,
        "name": job.name,
        "status": summary.status,
        "submitted_at": iso(job.submitted_at),
        "ended_at": iso(job.closed_at),
        "labels": {},
        "total": job.total,
        "tasks": {str(state): count for state, count in summary.tasks.items()},
        "reasons": summary.reasons,
        "because": summary.because,
        "results_url": summary.results_url,
        "eta_s": None if summary.eta_s is None else round(summary.eta_s, 1),
        "spent": summary.spent and round(summary.spent.dollars, 4),
    }


def counts_text(outcomes: Mapping[Outcome, int]) -> str:
    """`12 succeeded, 1 failed (exit code 3), 9 pending`."""
    parts = []
    for state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.CLAIMED, TaskState.PENDING):
        found = {outcome: count for outcome, count in outcomes.items() if outcome.state is state}
        if found:
            why = _reasons_text(found) if state is TaskState.FAILED else ""
            parts.append(f"{sum(found.values()):,} {SHOWN.get(state, state)}{why}")
    return ", ".join(parts) or "none yet"


def _reasons_text(found: Mapping[Outcome, int]) -> str:
    several = len(found) > 1
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    return f" ({', '.join(f'{count:,} x ' * several + _reason_text(outcome) for outcome, count in ordered)})"


def _reason_text(outcome: Outcome) -> str:
    match outcome.reason:
        case Reason.EXIT:
            return f"exit code {outcome.number}"
        case Reason.SIGNAL if outcome.number is not None:
            return f"signal {signal_name(outcome.number)}"
        case reason:
            return str(reason).replace("_", " ")
