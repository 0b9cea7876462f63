"""How records lie in a table: keys, partitions and indexed columns. Nothing here makes a request.

jobs               one small row a job, never changed: which pool it is in, its name, when it came
pool/P/jobs        the job rows; `claimable_at` is the time of the seal while the job is open, so `due` lists open jobs
job/J              the task rows, by zero-padded index
pins/J             what the first agent resolved for a job (its image)
pools              the pool rows
pool/P/nodes       the node rows
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from secrets import token_hex

from kubeq.core import wire
from kubeq.core.model import Job, JobId, Node, NodeName, Pool, PoolId, Reason, Task, TaskId, TaskState
from kubeq.queue.base import LARGE, Change, Key, Partition, Row, Tally

JOBS = Partition("jobs")
POOLS = Partition("pools")
INDEX_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEntry:
    """What the index of all jobs knows of one without reading its row."""

    id: JobId
    pool: PoolId
    name: str
    submitted_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What tasks are counted by: state, reason, and the exit code or signal number where there is one."""

    state: TaskState
    reason: Reason | None = None
    number: int | None = None


def new_change_id() -> str:
    """The random mark of one write."""
    return token_hex(8)


def jobs_of(pool: PoolId) -> Partition:
    return Partition(f"pool/{pool}/jobs")


def nodes_of(pool: PoolId) -> Partition:
    return Partition(f"pool/{pool}/nodes")


def tasks_of(job: JobId) -> Partition:
    return Partition(f"{LARGE}{job}")


def task_key(task: TaskId) -> Key:
    return Key(tasks_of(task.job), f"{task.index:0{INDEX_DIGITS}d}")


def pin_key(job: JobId, name: str) -> Key:
    return Key(Partition(f"pins/{job}"), name)


def task_of(row: Row, job: JobId) -> Task:
    """The task in a row of the job's partition."""
    return wire.decode_task(TaskId(job, int(row.key.name)), row.claimable_at, row.body)


def tally_of(task: Task) -> Tally:
    """The column that tasks are counted by."""
    number: int | str = ""
    current = task.current
    if current is not None and current.exit is not None and task.state not in (TaskState.PENDING, TaskState.CLAIMED):
        number = current.exit.signal if task.reason is Reason.SIGNAL else current.exit.code  # type: ignore[assignment]
    return Tally(f"{task.state}/{task.reason or ''}/{'' if number is None else number}")


def outcome_of(tally: Tally) -> Outcome:
    """What a tally says."""
    state, reason, number = tally.split("/")
    return Outcome(TaskState(state), Reason(reason) if reason else None, int(number) if number else None)


PENDING_TALLY = Tally("pending//")


def task_change(task: Task, version: int) -> Change:
    """The swap that writes a task over the row version it was made from."""
    return Change(
        task_key(task.id), version, new_change_id(), tally_of(task), task.claimable_at, wire.encode_task(task)
    )


def job_row(job: Job) -> Row:
    """The first row of a job."""
    return Row(Key(jobs_of(job.pool), job.id), 1, new_change_id(), None, _open_since(job), wire.encode_job(job))


def job_change(job: Job, version: int) -> Change:
    """The swap that writes a job over the row version it was made from."""
    return Change(
        Key(jobs_of(job.pool), job.id), version, new_change_id(), None, _open_since(job), wire.encode_job(job)
    )


def job_of(row: Row) -> Job:
    return wire.decode_job(JobId(row.key.name), row.body)


def entry_row(job: Job) -> Row:
    """The job's line in the index of all jobs."""
    body = {"schema": wire.SCHEMA, "pool": job.pool, "name": job.name, "submitted_at": job.submitted_at}
    return Row(Key(JOBS, job.id), 1, new_change_id(), None, None, wire.dumps(body))


def entry_of(row: Row) -> JobEntry:
    document = wire.loads(row.body, f"job {row.key.name}")
    return JobEntry(
        id=JobId(row.key.name),
        pool=PoolId(document["pool"]),
        name=document["name"],
        submitted_at=document["submitted_at"],
    )


def node_row(node: Node) -> Row:
    return Row(Key(nodes_of(node.pool), node.name), 1, new_change_id(), None, None, wire.encode_node(node))


def node_change(node: Node, version: int) -> Change:
    return Change(Key(nodes_of(node.pool), node.name), version, new_change_id(), None, None, wire.encode_node(node))


def node_of(row: Row) -> Node:
    return wire.decode_node(NodeName(row.key.name), row.body)


def pool_row(pool: Pool) -> Row:
    return Row(Key(POOLS, pool.id), 1, new_change_id(), None, None, wire.encode_pool(pool))


def pool_change(pool: Pool, version: int) -> Change:
    return Change(Key(POOLS, pool.id), version, new_change_id(), None, None, wire.encode_pool(pool))


def pool_of(row: Row) -> Pool:
    return wire.decode_pool(PoolId(row.key.name), row.body)


def pin_row(job: JobId, name: str, value: str) -> Row:
    return Row(pin_key(job, name), 1, new_change_id(), None, None, json.dumps({"schema": wire.SCHEMA, "value": value}))


def pin_of(row: Row) -> str:
    return str(wire.loads(row.body, f"pin {row.key.name}")["value"])


def _open_since(job: Job) -> float | None:
    return job.sealed_at if job.open else None
