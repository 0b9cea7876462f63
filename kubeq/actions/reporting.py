"""The report of a job: counts, why tasks failed with their last lines, what each node did, how long tasks took.

It is made from the job's records alone, so it can be made again as long as these are there. How it looks is elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubeq.actions.logs import last_lines
from kubeq.actions.session import Session
from kubeq.core.model import Attempt, Ending, Job, JobStatus, NodeName, Task, TaskId, TaskState
from kubeq.core.transitions import job_status

MOST_FAILURES = 20
"""Failed tasks that are told of one by one; the others are counted."""
LINES = 5
"""So many of the last lines of each."""
MOST_LONGEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task that failed: its last attempt, and the last lines of what that printed."""

    task: TaskId
    reason: str
    message: str | None
    attempt: Attempt | None
    lines: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class NodeWork:
    """What one node did for the job: attempts by how they ended, and how long they ran all together."""

    name: NodeName
    host: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    attempts: Counter[Ending] = field(default_factory=Counter)
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long the last attempts of the tasks ran, in seconds; `longest` are the tasks that ran longest."""

    total_s: float
    least_s: float
    median_s: float
    most_s: float
    longest: tuple[tuple[TaskId, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """A job as it stands. `failures` are the first ones of `tasks[failed]`; `durations` is None if nothing has run."""

    job: Job
    status: JobStatus
    tasks: Mapping[TaskState, int]
    reasons: Mapping[str, int]
    repeated: int
    failures: tuple[Failure, ...]
    nodes: tuple[NodeWork, ...]
    durations: Durations | None


def report_of(session: Session, job: Job, most_failures: int = MOST_FAILURES) -> JobReport:
    """The report; every task is read once, and of the failed ones so many are told of one by one."""
    job = session.queue.refresh(job)
    tasks = dict.fromkeys(TaskState, 0)
    reasons: Counter[str] = Counter()
    failed: list[Task] = []
    nodes: dict[NodeName, NodeWork] = {}
    times: list[tuple[float, TaskId]] = []
    repeated = 0
    for task in session.queue.tasks(job.id):
        tasks[task.state] += 1
        repeated += max(0, task.attempt - 1)
        if task.state in (TaskState.FAILED, TaskState.CANCELLED) and task.reason is not None:
            reasons[str(task.reason)] += 1
        if task.state is TaskState.FAILED and len(failed) < most_failures:
            failed.append(task)
        _count(nodes, task.attempts)
        ran = _ran(task.current)
        if ran is not None:
            times.append((ran, task.id))
    _name_hosts(session, job, nodes)
    return JobReport(
        job=job,
        status=job_status(job, tasks),
        tasks=tasks,
        reasons=dict(reasons),
        repeated=repeated,
        failures=tuple(_failure(session, task) for task in failed),
        nodes=tuple(sorted(nodes.values(), key=lambda node: (node.started_at or 0.0, node.name))),
        durations=_durations(times),
    )


def _count(nodes: dict[NodeName, NodeWork], attempts: Iterable[Attempt]) -> None:
    for attempt in attempts:
        node = nodes.setdefault(attempt.node, NodeWork(name=attempt.node))
        if attempt.ending is not None:
            node.attempts[attempt.ending] += 1
        node.busy_s += _ran(attempt) or 0.0


def _ran(attempt: Attempt | None) -> float | None:
    """For how long the attempt's command ran; None if it never did, or still does."""
    if attempt is None or attempt.started_at is None or attempt.ended_at is None:
        return None
    if attempt.usage is not None and attempt.usage.wall_s is not None:
        return attempt.usage.wall_s
    return max(0.0, attempt.ended_at - attempt.started_at)


def _name_hosts(session: Session, job: Job, nodes: Mapping[NodeName, NodeWork]) -> None:
    for row in session.queue.peers(job.pool):
        node = nodes.get(row.name)
        if node is not None:
            node.host, node.started_at, node.ended_at = row.address or row.host, row.started_at, row.ended_at


def _failure(session: Session, task: Task) -> Failure:
    current = task.current
    return Failure(
        task=task.id,
        reason=str(task.reason),
        message=None if current is None else current.message,
        attempt=current,
        lines=tuple(last_lines(session, task, LINES)),
    )


def _durations(times: list[tuple[float, TaskId]]) -> Durations | None:
    if not times:
        return None
    times.sort()
    return Durations(
        total_s=sum(seconds for seconds, _ in times),
        least_s=times[0][0],
        median_s=times[(len(times) - 1) // 2][0],
        most_s=times[-1][0],
        longest=tuple((task, seconds) for seconds, task in times[: -MOST_LONGEST - 1 : -1]),
    )
