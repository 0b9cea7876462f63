"""The model is worth something only if it catches what others got wrong: planted bugs, each of which it must find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import pytest

from kubeq.core import transitions
from kubeq.core.model import Job, NodeName, PoolId, Reach, Task, TaskState
from kubeq.core.resources import Resources
from kubeq.errors import BackendError
from kubeq.queue.base import Change, Cursor, Key, Page, Partition, RecordTable, Row, Standing, Swapped, Tally
from kubeq.queue.claims import Claimed, Final, Grant, Room
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Changed, Queue
from kubeq.queue.rows import task_key, task_of
from tests.model.calls import Clock
from tests.model.machine import KINDS, USERS_OF_NODES, check
from tests.model.oracle import Violation
from tests.model.world import Make, World

EXAMPLES = 500
"""At most: the run ends with the first that shows the bug, which is among the first hundred or so."""


class _Planted(Queue):
    """A queue with a bug; the right one is at hand."""

    def __init__(self, table: RecordTable, clock: Clock) -> None:
        super().__init__(table, clock)
        self.table, self.clock = table, clock

    def whoever_holds_it(self, grant: Grant) -> Grant | None:
        """The grant of the attempt that is current, whosever it is."""
        row = self.table.get([task_key(grant.task.id)])[0]
        assert row is not None
        task = task_of(row, grant.job.id)
        return replace(grant, task=task, version=row.version) if task.state is TaskState.CLAIMED else None


class FinishLooksAtTheStateOnly(_Planted):
    """River and sparklespray: `UPDATE .. WHERE id = ? AND state = 'running'`."""

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        answers = list(super().finish(finals))
        for place, final in enumerate(finals):
            grant = self.whoever_holds_it(final.grant) if answers[place] is None else None
            if grant is not None:
                answers[place] = super().finish([replace(final, grant=grant)])[0]
        return answers


class RenewIsNotFenced(_Planted):
    """A heartbeat by task, not by attempt."""

    def renew(self, grants: Sequence[Grant], started_at: Sequence[float | None]) -> Sequence[Grant | None]:
        answers = list(super().renew(grants, started_at))
        for place, grant in enumerate(grants):
            current = self.whoever_holds_it(grant) if answers[place] is None else None
            if current is not None:
                answers[place] = super().renew([current], [None])[0]
        return answers


class ResetStartsCountingAnew(_Planted):
    """Attempt numbers from 1 again after a reset."""

    def reset(
        self,
        job: Job,
        indexes: Sequence[int],
        *,
        succeeded: bool = False,
        force: bool = False,
        resources: Resources | None = None,
    ) -> Changed:
        def edit(task: Task) -> Task:
            again = transitions.reset(task, now=self.now(), succeeded=succeeded, force=force)
            return replace(again, attempt=0, attempts=())

        return self._run_again(job, indexes, edit)


class LostClaimsAreForgotten(_Planted):
    """An agent that does not ask what became of a claim that nobody answered."""

    def claim(self, pool: PoolId, node: NodeName, room: Room) -> Claimed:
        try:
            return super().claim(pool, node, room)
        except BackendError:
            Queue.__init__(self, self.table, self.clock)
            raise


class JobsAreSealedFromTheStart(_Planted):
    """A job that can be claimed while its tasks are being written."""

    def begin(self, job: Job) -> Job:
        return super().begin(replace(job, sealed_at=self.now()))


class KillSparesWhatRuns(_Planted):
    """A kill of the tasks that wait only."""

    def cancel_job(self, job: Job) -> Changed:
        waiting = [task.id.index for task in self.tasks(job.id) if task.state is TaskState.PENDING]
        return self.cancel_tasks(job, waiting)


class RetryOpensTheJobLastOnly(_Planted):
    """A crash between the tasks and the job row leaves pending tasks in a closed job; asking again changes nothing."""

    def retry(self, job: Job, indexes: Sequence[int]) -> Changed:
        done = self._edit(job.id, indexes, lambda task: transitions.retry(task, now=self.now()))
        if done.changed:
            self._edit_job(job, lambda old: replace(old, open=True, cancelled=False, closed_at=None))
        return done


class PauseWritesWhatItKnew(_Planted):
    """A pause that puts a job's number of nodes back to what it was when the command began."""

    def pause(self, job: Job) -> Job:
        return self._edit_job(job, lambda old: replace(old, paused=True, nodes=job.nodes))


class HalfOfTheGrantsAreNotTold(_Planted):
    """A claim of several tasks that answers with the first."""

    def claim(self, pool: PoolId, node: NodeName, room: Room) -> Claimed:
        claimed = super().claim(pool, node, room)
        return replace(claimed, grants=claimed.grants[:1])


class _Wrapped:
    """A table with a bug, over a right one."""

    reach: ClassVar[Reach] = MemoryTable.reach
    batch: ClassVar[int] = MemoryTable.batch

    def __init__(self, table: MemoryTable) -> None:
        self.table = table

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        return self.table.insert(rows)

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        return self.table.get(keys)

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        return self.table.swap(changes)

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        return self.table.due(partition, before, after, limit)

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        return self.table.list(partition, after, limit)

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        return self.table.count(partition, consistent)

    def delete(self, keys: Sequence[Key]) -> None:
        self.table.delete(keys)

    def clock_offset(self) -> float:
        return 0.0

    def wait(self, seconds: float) -> None:
        raise AssertionError("nothing in the model waits")


class InsertsAreUnconditionalPuts(_Wrapped):
    """DynamoDB's BatchWriteItem: a late batch puts a claimed task back to pending."""

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        self.table.delete([row.key for row in rows])
        return self.table.insert(rows)


class ItsOwnChangeIsACollision(_Wrapped):
    """A conditional write whose answer was lost fails its own condition when it is sent again."""

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        before = self.table.get([change.key for change in changes])
        return [
            Standing(old) if old is not None and old.change_id == change.change_id else self.table.swap([change])[0]
            for old, change in zip(before, changes, strict=True)
        ]


class SwapsIgnoreTheVersion(_Wrapped):
    """Last writer wins."""

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        before: Iterable[Row | None] = self.table.get([change.key for change in changes])
        now = [
            change._replace(version=old.version) if old else change for change, old in zip(changes, before, strict=True)
        ]
        return self.table.swap(now)


def _expect(make: Make, wrap: type[_Wrapped] | None, words: str, kinds: Sequence[str] = KINDS) -> None:
    def world() -> World:
        table = MemoryTable()
        return World(table if wrap is None else wrap(table), table, make)

    with pytest.raises(Violation, match=words):
        check(world, examples=EXAMPLES, shrink=False, kinds=kinds)


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        (FinishLooksAtTheStateOnly, "a finish may not make"),
        (RenewIsNotFenced, "a renew may not make|a renewal of"),
        (ResetStartsCountingAnew, "a reset may not make"),
        (LostClaimsAreForgotten, "and was not told"),
        (JobsAreSealedFromTheStart, "was sealed with"),
        (KillSparesWhatRuns, "goes on after the kill|is pending after the kill"),
        (RetryOpensTheJobLastOnly, "did not come to an end|a (sweep|claim) may not make"),
        (HalfOfTheGrantsAreNotTold, "and was not told"),
    ],
)
def test_a_queue_with_a_planted_bug_is_caught(planted: Make, words: str) -> None:
    _expect(planted, None, words)


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        (InsertsAreUnconditionalPuts, "a version did not grow by one"),
        (ItsOwnChangeIsACollision, "and was not told|a finish as"),
        (SwapsIgnoreTheVersion, "may not make|changed "),
    ],
)
def test_a_table_with_a_planted_bug_is_caught(planted: type[_Wrapped], words: str) -> None:
    _expect(Queue, planted, words)


def test_a_pause_that_forgets_how_many_nodes_a_job_is_to_have_is_caught() -> None:
    _expect(PauseWritesWhatItKnew, None, "a pause changed how many nodes", (*KINDS, *USERS_OF_NODES))
