"""Jobs put straight into a queue, and their lives there: for tests that need no session, no store and no agent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.model import Ending, Exit, Job, JobId, NodeName, Policy, PoolId, TaskState
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.queue.claims import Final, Grant, Room
from kubeq.queue.queue import Queue

POOL = PoolId("p")
BIG = Resources(cpu=1000.0)
"""What a node has that never fills up."""


def submitted(
    queue: Queue,
    tasks: int,
    *,
    id: str = "20260101-abc",
    pool: PoolId = POOL,
    spec: Digest | None = None,
    resources: Resources | None = None,
    policy: Policy | None = None,
    at: float | None = None,
    seal: bool = True,
) -> Job:
    """A job with so many tasks, of one column that holds the task's number; `at` is now if nobody says when."""
    job = Job(
        id=JobId(id),
        name=id,
        pool=pool,
        user="u",
        host="h",
        submitted_at=queue.now() if at is None else at,
        total=tasks,
        spec=spec or Digest.of(b"spec"),
        columns=("x",),
        resources=resources or Resources(cpu=1.0),
        policy=policy or Policy(),
        results_url="",
    )
    queue.begin(job)
    queue.add_tasks(job, (wire.pending_body(json.dumps([str(index)])) for index in range(1, tasks + 1)))
    return queue.seal(job) if seal else job


def claim(queue: Queue, starts: int, node: str = "n1") -> list[Grant]:
    return list(queue.claim(POOL, NodeName(node), Room(free=BIG, total=BIG, starts=starts)).grants)


def finish(queue: Queue, grants: Sequence[Grant]) -> None:
    report = Report(ended_at=queue.now(), exit=Exit(code=0))
    queue.finish([Final(grant=grant, ending=Ending.SUCCEEDED, report=report) for grant in grants])


def states(queue: Queue, job: Job) -> dict[TaskState, int]:
    counts: Counter[TaskState] = Counter()
    for outcome, tasks in queue.outcomes(job.id, consistent=True).items():
        counts[outcome.state] += tasks
    return dict(counts)
