"""Queue: everything that can be done with jobs, tasks, nodes and pools, over any table.

The agent's half comes from `granting`, what only looks from `looking`, pools and nodes from `pools`, a job's own row
from `gates`; here is what users change of jobs with their tasks: submit, seal, cancel, retry, reset, forget. Every
change of a task goes through `core.transitions` and a swap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from kubeq.core import transitions
from kubeq.core.clock import Clock
from kubeq.core.model import UNFINISHED, Job, JobId, NodeName, Task, TaskId, TaskState
from kubeq.core.resources import Resources
from kubeq.errors import Conflict, IllegalTransition, KubeqError, NotFound
from kubeq.queue.base import Change, Key, RecordTable, Row, Swapped
from kubeq.queue.gates import Gates
from kubeq.queue.granting import Granting
from kubeq.queue.looking import PINNED, Looking
from kubeq.queue.pools import Pools
from kubeq.queue.rows import (
    JOBS,
    PENDING_TALLY,
    entry_row,
    job_change,
    job_of,
    job_row,
    jobs_of,
    new_change_id,
    pin_key,
    task_key,
    task_of,
    tasks_of,
)
from kubeq.queue.swaps import batches, edit_row, edit_tasks, get_all, insist, pages_of, swap_all
from kubeq.queue.sweeping import close_if_done, state_of_row, sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a change of many tasks came to: the indexes it changed, and why it left the others alone."""

    changed: tuple[int, ...] = ()
    unchanged: tuple[tuple[int, str], ...] = ()


class Queue(Granting, Looking, Pools, Gates):
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

    def add_tasks(self, job: Job, bodies: Iterable[str]) -> None:
        """Write task rows create-only, in batches, numbered from 1; rows that stand already are left alone."""
        partition, rows = tasks_of(job.id), iter(bodies)
        index, size = 1, self._table.batch
        while batch := list(islice(rows, size)):
            mark, due = new_change_id(), job.submitted_at
            new = [
                Row(Key(partition, f"{index + place:010d}"), 1, mark, PENDING_TALLY, due, body)
                for place, body in enumerate(batch)
            ]
            insist(partial(self._table.insert, new))
            index += len(batch)

    def seal(self, job: Job) -> Job:
        """Make the job claimable; safe to repeat. Every task row must have been written.

        One request where nobody has touched the row since `begin`, as is usual. `job.requests` are written with it.
        Raises NotFound if the job has been forgotten meanwhile; then what was written of it is removed.
        """
        sealed = replace(job, sealed_at=self.now())
        if isinstance(swap_all(self._table, [job_change(sealed, 1)])[0], Swapped):
            return sealed

        def seal(old: Job) -> Job:
            return old if old.sealed_at else replace(old, sealed_at=self.now(), requests=job.requests)

        try:
            return self._edit_job(job, seal)
        except NotFound:  # `forget` was here while rows were still being added: nobody else knows of those
            self.forget_tasks(job.id)
            raise NotFound(f"job {job.id} was removed while it was being submitted", hint="submit it again") from None

    # -- changing -----------------------------------------------------------------------------------------------------

    def cancel_job(self, job: Job) -> Changed:
        """Cancel everything unfinished; on return no task of the job is or becomes claimed but those told to stop.

        The job row is marked first, so that no agent picks from it any more; then every task, until a full pass finds
        nothing to do. Agents that see the mark cancel tasks too: what they did is in the answer as well.
        """
        outcomes = self.outcomes(job.id, consistent=True)
        unfinished = sum(count for outcome, count in outcomes.items() if outcome.state in UNFINISHED)
        before = self._cancelled(job.id) if any(old.state is TaskState.CANCELLED for old in outcomes) else set()
        self._edit_job(job, lambda old: replace(old, cancelled=True))
        changed: set[int] = set()
        while True:
            done = self._edit(job.id, None, _cancel_once)
            changed.update(done.changed)
            if not done.changed:
                break
        self.close_if_done(job)
        if len(changed) < unfinished:
            changed |= self._cancelled(job.id) - before
        return Changed(changed=tuple(sorted(changed)), unchanged=done.unchanged)

    def cancel_tasks(self, job: Job, indexes: Sequence[int]) -> Changed:
        """Cancel some tasks."""
        done = self._edit(job.id, indexes, _cancel_once)
        self.close_if_done(job)
        return done

    def disown(self, job: Job, gone: Collection[NodeName]) -> Changed:
        """End the claims of nodes that have certainly ended, without waiting for their leases: the caller has proof."""
        cancelled = self.refresh(job).cancelled

        def edit(task: Task) -> Task:
            if task.state is not TaskState.CLAIMED or task.current is None or task.current.node not in gone:
                return task
            asked = transitions.cancel(task) if cancelled else task
            return transitions.disown(asked, now=self.now(), policy=job.policy)

        done = self._edit(job.id, None, edit)
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

    def sweep(self, job: Job) -> int:
        """End expired leases of a killed job, and those of a paused one that ended a full term ago; how many tasks were
        moved on.

        A command cannot know whether this machine has just woken up, with holders that are about to renew; what they
        run in a paused job is still wanted. Agents, which know, end such leases at once.
        """
        if not job.paused and not job.cancelled:
            return 0
        return sweep(self._table, job, self.now(), overdue_s=job.policy.lease_s)

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
        self.forget_tasks(job.id)
        keys = [pin_key(job.id, PINNED), Key(jobs_of(job.pool), job.id), Key(JOBS, job.id)]
        insist(lambda: self._table.delete(keys))

    def forget_tasks(self, job: JobId) -> None:
        """Remove every task row of a job that is to be forgotten, or that has been."""
        while True:
            page = insist(lambda: self._table.list(tasks_of(job), None, self._table.batch))
            if not page.rows:
                return
            insist(partial(self._table.delete, [row.key for row in page.rows]))

    # -- parts --------------------------------------------------------------------------------------------------------

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
        return ([row for row in rows if state_of_row(row) in UNFINISHED] for rows in self._task_rows(job))

    def _cancelled(self, job: JobId) -> set[int]:
        """The indexes of the tasks that are cancelled now."""
        found = (row for rows in self._task_rows(job) for row in rows if state_of_row(row) is TaskState.CANCELLED)
        return {task_of(row, job).id.index for row in found}

    def _task_rows(self, job: JobId) -> Iterator[Sequence[Row]]:
        return pages_of(self._table, tasks_of(job))

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
