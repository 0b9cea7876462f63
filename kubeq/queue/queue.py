"""Queue: everything that can be done with jobs, tasks, nodes and pools, over any table.

The agent's half comes from `granting`; here is the user's half: submit, seal, cancel, retry, reset, pause, look at,
forget. Every change of a task goes through `core.transitions` and a swap; job rows change only by their gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from kubeq.core import transitions
from kubeq.core.clock import Clock
from kubeq.core.model import UNFINISHED, Job, JobId, Node, NodeOrder, Pool, PoolId, Task, TaskId, TaskState
from kubeq.core.resources import Resources
from kubeq.errors import BackendError, Conflict, IllegalTransition, KubeqError, NotFound
from kubeq.queue.base import Change, Cursor, Key, RecordTable, Row, Swapped
from kubeq.queue.granting import Granting
from kubeq.queue.rows import (
    JOBS,
    PENDING_TALLY,
    POOLS,
    JobEntry,
    Outcome,
    entry_of,
    entry_row,
    job_change,
    job_of,
    job_row,
    jobs_of,
    new_change_id,
    node_change,
    node_of,
    nodes_of,
    outcome_of,
    pin_key,
    pin_of,
    pool_change,
    pool_of,
    pool_row,
    task_key,
    task_of,
    tasks_of,
)
from kubeq.queue.swaps import batches, edit_row, edit_tasks, get_all, insist, swap_all
from kubeq.queue.sweeping import close_if_done, list_all, state_of_row, sweep

PINNED = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a change of many tasks came to: the indexes it changed, and why it left the others alone."""

    changed: tuple[int, ...] = ()
    unchanged: tuple[tuple[int, str], ...] = ()


class Queue(Granting):
    """The queue of one table."""

    def __init__(self, table: RecordTable, clock: Clock) -> None:
        super().__init__(table, clock)
        self._clock = clock

    # -- submission ---------------------------------------------------------------------------------------------------

    def begin(self, job: Job) -> Job:
        """Write the job unsealed; its row as it stands. Safe to repeat: the same id with the same spec is the same job.

        Raises Conflict if the id is taken by another spec.
        """
        standing = insist(lambda: self._table.insert([entry_row(job), job_row(job)]))[1]
        if standing is None:
            return job
        found = job_of(standing)
        if found.spec != job.spec or found.total != job.total:
            raise Conflict(f"the job id {job.id} is taken by another submission")
        return found

    def add_tasks(self, job: Job, bodies: Iterable[str], *, first: int = 1) -> None:
        """Write task rows create-only, in batches, numbered from `first`; rows that stand already are left alone."""
        partition, rows = tasks_of(job.id), iter(bodies)
        index, size = first, self._table.batch
        while batch := list(islice(rows, size)):
            mark, due = new_change_id(), job.submitted_at
            new = [
                Row(Key(partition, f"{index + place:010d}"), 1, mark, PENDING_TALLY, due, body)
                for place, body in enumerate(batch)
            ]
            insist(lambda new=new: self._table.insert(new))  # type: ignore[misc]
            index += len(batch)

    def seal(self, job: Job) -> Job:
        """Make the job claimable; safe to repeat. Every task row must have been written.

        One request where nobody has touched the row since `begin`, as is usual.
        """
        sealed = replace(job, sealed_at=self.now())
        if isinstance(swap_all(self._table, [job_change(sealed, 1)])[0], Swapped):
            return sealed
        return self._edit_job(job, lambda old: old if old.sealed_at else replace(old, sealed_at=self.now()))

    # -- looking ------------------------------------------------------------------------------------------------------

    def entries(self) -> list[JobEntry]:
        """Every job there is, oldest id first."""
        return [entry_of(row) for row in list_all(self._table, JOBS)]

    def jobs(self, entries: Sequence[JobEntry]) -> list[Job]:
        """The jobs of those entries that still exist."""
        rows = get_all(self._table, [Key(jobs_of(entry.pool), entry.id) for entry in entries])
        return [job_of(row) for row in rows if row is not None]

    def job(self, id: JobId) -> Job:
        """One job by its full id. Raises NotFound."""
        entry = insist(lambda: self._table.get([Key(JOBS, id)]))[0]
        found = self.jobs([entry_of(entry)]) if entry is not None else []
        if not found:
            raise NotFound(f"there is no job {id}", hint="kubeq status lists every job")
        return found[0]

    def refresh(self, job: Job) -> Job:
        """The job as it stands now. Raises NotFound once it has been forgotten."""
        row = insist(lambda: self._table.get([Key(jobs_of(job.pool), job.id)]))[0]
        if row is None:
            raise NotFound(f"job {job.id} has been removed")
        return job_of(row)

    def outcomes(self, job: JobId, *, consistent: bool = False) -> Mapping[Outcome, int]:
        """How many tasks there are of each state, reason and exit code: one count."""
        tallies = insist(lambda: self._table.count(tasks_of(job), consistent))
        return {outcome_of(tally): rows for tally, rows in tallies.items() if rows}

    def tasks(self, job: JobId) -> Iterator[Task]:
        """Every task by index, a page at a time; strongly consistent page by page."""
        cursor: Cursor | None = None
        while True:
            page = insist(lambda after=cursor: self._table.list(tasks_of(job), after, self._table.batch))  # type: ignore[misc]
            yield from (task_of(row, job) for row in page.rows)
            cursor = page.after
            if cursor is None:
                return

    def tasks_at(self, job: JobId, indexes: Sequence[int]) -> list[Task]:
        """Those tasks. Raises NotFound naming the first that does not exist."""
        rows = get_all(self._table, [task_key(TaskId(job, index)) for index in indexes])
        for index, row in zip(indexes, rows, strict=True):
            if row is None:
                raise NotFound(f"job {job} has no task {index}")
        return [task_of(row, job) for row in rows if row is not None]

    def first_due(self, job: JobId) -> float | None:
        """The earliest time at which a task may be claimed or a lease ends; None if nothing is unfinished. A hint."""
        page = insist(lambda: self._table.due(tasks_of(job), float("inf"), None, 1))
        return page.rows[0].claimable_at if page.rows else None

    def pinned_image(self, job: JobId) -> str | None:
        """What the first agent resolved the job's image to, if the submitter could not."""
        row = insist(lambda: self._table.get([pin_key(job, PINNED)]))[0]
        return None if row is None else pin_of(row)

    # -- changing -----------------------------------------------------------------------------------------------------

    def cancel_job(self, job: Job) -> Changed:
        """Cancel everything unfinished; on return no task of the job is or becomes claimed but those told to stop.

        The job row is marked first, so that no agent picks from it any more; then every task, until a full pass finds
        nothing to do.
        """
        self._edit_job(job, lambda old: replace(old, cancelled=True))
        changed: set[int] = set()
        while True:
            done = self._edit(job.id, None, _cancel_once)
            changed.update(done.changed)
            if not done.changed:
                break
        self.close_if_done(job)
        return Changed(changed=tuple(sorted(changed)), unchanged=done.unchanged)

    def cancel_tasks(self, job: Job, indexes: Sequence[int]) -> Changed:
        """Cancel some tasks."""
        done = self._edit(job.id, indexes, _cancel_once)
        self.close_if_done(job)
        return done

    def retry(self, job: Job, indexes: Sequence[int]) -> Changed:
        """Those failed or cancelled tasks pending again; the job open again."""
        return self._run_again(job, indexes, lambda task: transitions.retry(task, now=self.now()))

    def reset(
        self,
        job: Job,
        indexes: Sequence[int],
        *,
        succeeded: bool = False,
        force: bool = False,
        resources: Resources | None = None,
    ) -> Changed:
        """Those tasks pending again, as `transitions.reset` allows; the job open again."""

        def edit(task: Task) -> Task:
            again = transitions.reset(task, now=self.now(), succeeded=succeeded, force=force)
            return again if resources is None else transitions.with_resources(again, resources)

        return self._run_again(job, indexes, edit)

    def pause(self, job: Job) -> Job:
        """No new claims."""
        return self._edit_job(job, lambda old: replace(old, paused=True))

    def resume(self, job: Job) -> Job:
        """Claims go on."""
        return self._edit_job(job, lambda old: replace(old, paused=False))

    def sweep(self, job: Job) -> int:
        """End expired leases of a paused or killed job; how many tasks were moved on."""
        return sweep(self._table, job, self.now()) if job.paused or job.cancelled else 0

    def close_if_done(self, job: Job) -> bool:
        """Close the job's gate if nothing of it is unfinished."""
        row = insist(lambda: self._table.get([Key(jobs_of(job.pool), job.id)]))[0]
        if row is None:
            return False
        standing = job_of(row)
        if standing.sealed_at is None or not standing.open:
            return not standing.open
        return close_if_done(self._table, standing, row.version, self.now())

    def forget(self, job: Job) -> None:
        """Remove the job's records: its tasks, then its row, then its entry; safe to repeat after a crash."""
        while True:
            page = insist(lambda: self._table.list(tasks_of(job.id), None, self._table.batch))
            if not page.rows:
                break
            insist(lambda page=page: self._table.delete([row.key for row in page.rows]))  # type: ignore[misc]
        keys = [pin_key(job.id, PINNED), Key(jobs_of(job.pool), job.id), Key(JOBS, job.id)]
        insist(lambda: self._table.delete(keys))

    # -- pools and nodes ----------------------------------------------------------------------------------------------

    def pool(self, id: PoolId) -> Pool | None:
        """The pool, if anybody has made it."""
        row = insist(lambda: self._table.get([Key(POOLS, id)]))[0]
        return None if row is None else pool_of(row)

    def pools(self) -> list[Pool]:
        """Every pool there is."""
        return [pool_of(row) for row in list_all(self._table, POOLS)]

    def number_nodes(self, pool: Pool, count: int) -> list[int]:
        """The next `count` node numbers of the pool, never given out before; makes the pool if need be. Atomic."""
        insist(lambda: self._table.insert([pool_row(replace(pool, nodes=0))]))

        def edit(row: Row) -> Change:
            standing = pool_of(row)
            return pool_change(replace(standing, nodes=standing.nodes + count), row.version)

        row = edit_row(self._table, Key(POOLS, pool.id), f"pool {pool.id}", edit)
        if row is None:
            raise BackendError(f"the pool {pool.id} was removed while nodes were being added", transient=True)
        last = pool_of(row).nodes
        return list(range(last - count + 1, last + 1))

    def order(self, node: Node, order: NodeOrder) -> bool:
        """Ask a node to leave; False if it has no row."""

        def edit(row: Row) -> Change:
            return node_change(replace(node_of(row), order=order), row.version)

        return edit_row(self._table, Key(nodes_of(node.pool), node.name), f"node {node.name}", edit) is not None

    def forget_pool(self, pool: PoolId) -> None:
        """Remove a pool that no job uses, with its node rows."""
        keys = [Key(nodes_of(pool), node.name) for node in self.peers(pool)]
        for batch in batches([*keys, Key(POOLS, pool)], self._table.batch):
            insist(lambda batch=batch: self._table.delete(batch))  # type: ignore[misc]

    def has_jobs(self, pool: PoolId) -> bool:
        """Whether any job, ended or not, belongs to the pool."""
        return bool(insist(lambda: self._table.list(jobs_of(pool), None, 1)).rows)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _edit_job(self, job: Job, edit: Callable[[Job], Job]) -> Job:
        """The job row as it stands after `edit`."""

        def change(row: Row) -> Change | None:
            old = job_of(row)
            new = edit(old)
            return None if new == old else job_change(new, row.version)

        row = edit_row(self._table, Key(jobs_of(job.pool), job.id), f"job {job.id}", change)
        if row is None:
            raise NotFound(f"job {job.id} has been removed")
        return job_of(row)

    def _edit(self, job: JobId, indexes: Sequence[int] | None, edit: Callable[[Task], Task]) -> Changed:
        """Every unfinished task, or those at the indexes, after `edit`."""
        changed: list[int] = []
        unchanged: list[tuple[int, str]] = []
        for rows in self._unfinished_rows(job) if indexes is None else self._rows_at(job, indexes):
            before = [task_of(row, job) for row in rows]
            for old, answer in zip(before, edit_tasks(self._table, job, rows, edit), strict=True):
                match answer:
                    case IllegalTransition():
                        unchanged.append((old.id.index, answer.message))
                    case KubeqError():
                        raise answer
                    case (new, _) if new == old:
                        unchanged.append((old.id.index, f"task {old.id} is {old.state} as it was"))
                    case _:
                        changed.append(old.id.index)
        return Changed(changed=tuple(changed), unchanged=tuple(unchanged))

    def _rows_at(self, job: JobId, indexes: Sequence[int]) -> Iterator[list[Row]]:
        for batch in batches(indexes, self._table.batch):
            rows = get_all(self._table, [task_key(TaskId(job, index)) for index in batch])
            yield [row for row in rows if row is not None]

    def _unfinished_rows(self, job: JobId) -> Iterator[list[Row]]:
        cursor: Cursor | None = None
        while True:
            page = insist(lambda after=cursor: self._table.list(tasks_of(job), after, self._table.batch))  # type: ignore[misc]
            yield [row for row in page.rows if state_of_row(row) in UNFINISHED]
            cursor = page.after
            if cursor is None:
                return

    def _run_again(self, job: Job, indexes: Sequence[int], edit: Callable[[Task], Task]) -> Changed:
        """Those tasks after an edit that makes them pending, in an open job; safe to repeat after a crash.

        The gate is opened first, so that nobody sweeps away a killed job's tasks that are wanted again, and so that a
        repetition finds pending tasks in an open job; and the job row is written last, its version raised even if
        nothing differs, so that a close that is under way fails.
        """
        if any(_would_run(task_of(row, job.id), edit) for rows in self._rows_at(job.id, indexes) for row in rows):
            self._edit_job(job, _opened)
        done = self._edit(job.id, indexes, edit)
        if done.changed:

            def change(row: Row) -> Change:
                return job_change(_opened(job_of(row)), row.version)

            edit_row(self._table, Key(jobs_of(job.pool), job.id), f"job {job.id}", change)
        return done


def _opened(job: Job) -> Job:
    return replace(job, open=True, cancelled=False, closed_at=None)


def _would_run(task: Task, edit: Callable[[Task], Task]) -> bool:
    """Whether the task is pending, or is after the edit."""
    try:
        return task.state is TaskState.PENDING or edit(task).state is TaskState.PENDING
    except IllegalTransition:
        return False


def _cancel_once(task: Task) -> Task:
    """The task cancelled; one that was told to stop before stays as it is."""
    if task.state is TaskState.CLAIMED and task.cancel_asked:
        return task
    return transitions.cancel(task)
