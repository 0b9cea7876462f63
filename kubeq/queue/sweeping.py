"""Ending what nobody holds any more: expired leases of paused or killed jobs, and jobs with nothing left to do.

There is no reaper: agents, and commands that look at a job, make these swaps when they come by.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf

from kubeq.core import transitions
from kubeq.core.model import UNFINISHED, Job, TaskState
from kubeq.errors import KubeqError
from kubeq.queue.base import Change, Cursor, Key, Partition, RecordTable, Row, Swapped
from kubeq.queue.rows import job_change, job_of, jobs_of, outcome_of, task_change, task_of, tasks_of
from kubeq.queue.swaps import insist, pages_of, swap_all

LOOKED_AT = 16
"""Rows of a page from which one is wanted: a table may look through rows that have just changed to find any."""


def sweep(table: RecordTable, job: Job, now: float, *, overdue_s: float = 0.0) -> int:
    """How many tasks of a paused or killed job were moved on: expired leases ended, and what is pending in a killed job
    cancelled. Nothing is started. `kill`, `watch` and `clean` may make the same swaps as an agent; but in a job that is
    only paused they end a lease `overdue_s` after its end, for they cannot tell whether the machine was just asleep and
    its holder is about to renew it.

    The gates are read after the rows and a loser is left for the next sweep, because `retry` opens the gate before it
    touches a task: what is pending in a row that was read before a closed gate, nobody has asked for since the kill.
    """
    moved = 0
    cursor: Cursor | None = None
    while True:
        page = insist(partial(table.due, tasks_of(job.id), now, cursor, table.batch))
        standing = insist(lambda: table.get([Key(jobs_of(job.pool), job.id)]))[0] if page.rows else None
        if standing is None:
            return moved
        changes = [change for row in page.rows if (change := _swept(row, job_of(standing), now, overdue_s)) is not None]
        moved += sum(isinstance(answer, Swapped) for answer in swap_all(table, changes))
        cursor = page.after
        if cursor is None:
            return moved


def _swept(row: Row, job: Job, now: float, overdue_s: float) -> Change | None:
    """The swap that moves a task of a paused or killed job on; None where there is nothing to do."""
    try:
        old = task = task_of(row, job.id)
    except KubeqError:
        return None  # written by a newer kubeq, or not by kubeq: left as it is
    if job.cancelled and task.state in UNFINISHED and not task.cancel_asked:
        task = transitions.cancel(task)
    expired = (task.claimable_at or 0.0) + (0.0 if job.cancelled else overdue_s) <= now
    if (job.cancelled or job.paused) and task.state is TaskState.CLAIMED and expired:
        task = transitions.expire(task, now=now, policy=job.policy)
    return None if task == old else task_change(task, row.version)


def state_of_row(row: Row) -> TaskState | None:
    """The state in a task row's tally, without reading its body."""
    return None if row.tally is None else outcome_of(row.tally).state


def close_if_done(table: RecordTable, job: Job, version: int, now: float) -> bool:
    """Whether the job is closed: if a consistent count finds nothing unfinished, the gate is swapped against `version`.

    A stale close fails, because `retry` and `reset` raise the version of the job row last.
    """
    if _has_one_unfinished(table, job):
        return False
    tallies = insist(lambda: table.count(tasks_of(job.id), True))
    if any(outcome_of(tally).state in UNFINISHED for tally, rows in tallies.items() if rows):
        return False
    closed = replace(job, open=False, closed_at=now)
    return isinstance(swap_all(table, [job_change(closed, version)])[0], Swapped)


def _has_one_unfinished(table: RecordTable, job: Job) -> bool:
    """True for a job of which the due index shows a task that is indeed unfinished; False proves nothing.

    Two small requests, which spare the count: of a million rows that costs money on a service, and while the last tasks
    of a job run, everybody with nothing left to claim asks whether it is done.
    """
    page = insist(lambda: table.due(tasks_of(job.id), inf, None, LOOKED_AT))
    standing = insist(lambda: table.get([page.rows[0].key]))[0] if page.rows else None
    return standing is not None and state_of_row(standing) in UNFINISHED


def list_all(table: RecordTable, partition: Partition) -> list[Row]:
    """Every row of a partition, for partitions that are small by nature (nodes, pools, jobs)."""
    return [row for rows in pages_of(table, partition) for row in rows]
