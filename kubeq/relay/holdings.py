"""Which attempts a node holds, as the queue itself says: a node only names them, and no more of it is believed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from kubeq.core.digest import Digest
from kubeq.core.model import Attempt, Job, JobId, NodeName, Pool, Task, TaskId, TaskState
from kubeq.errors import AccessDenied
from kubeq.queue.base import Key, RecordTable, Row
from kubeq.queue.claims import Grant
from kubeq.queue.rows import POOLS, job_of, jobs_of, pool_of, task_key, task_of
from kubeq.queue.swaps import get_all
from kubeq.queue.wire import Hold
from kubeq.relay.admissions import Guest

REMEMBERED = 10_000
"""Attempts of a node that are not looked up again: whose an attempt is never changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An attempt that a node has named. `grant`: it is the current one, as its row stands. `task` None: it is gone."""

    hold: Hold
    task: Task | None = None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What an attempt may read: its job's spec, and the manifest of its inputs if it has one of its own."""

    spec: Digest
    inputs: Digest | None


class Holdings:
    """The attempts of one guest. Safe to use from several threads."""

    def __init__(self, table: RecordTable, guest: Guest) -> None:
        self._table = table
        self._guest = guest
        self._lock = threading.Lock()
        self._held: dict[tuple[TaskId, int], Needs] = {}
        self._mine: OrderedDict[tuple[TaskId, int], None] = OrderedDict()
        self.told = False
        """Whether the node has named all that it holds since this relay knows it."""

    def judge(self, holds: Sequence[Hold], nodes: Collection[NodeName] | None = None) -> list[Standing]:
        """The attempts as they stand. Raises AccessDenied for one that was never granted to any of `nodes` (by default:
        to the guest), or is of another pool.
        """
        mine = {self._guest.node} if nodes is None else nodes
        jobs = {hold.task.job: Key(jobs_of(self._guest.pool), hold.task.job) for hold in holds}
        tasks = {hold.task: task_key(hold.task) for hold in holds}
        keys = [*jobs.values(), *tasks.values()]
        rows = dict(zip(keys, get_all(self._table, keys), strict=True))
        answers = [self._judge(hold, rows[jobs[hold.task.job]], rows[tasks[hold.task]], mine) for hold in holds]
        self._note(answers)
        return answers

    def granted(self, grants: Iterable[Grant]) -> None:
        """The node holds these now."""
        with self._lock:
            for grant in grants:
                self._held[grant.task.id, grant.attempt] = _needs(grant)
                self._remember(grant.task.id, grant.attempt)

    def ended(self, holds: Iterable[Hold]) -> None:
        """The node does not hold these any more."""
        with self._lock:
            for hold in holds:
                self._held.pop((hold.task, hold.attempt), None)

    def needs(self) -> list[Needs]:
        """What the attempts that the node holds now may read."""
        with self._lock:
            return list(dict.fromkeys(self._held.values()))

    def pool(self) -> Pool | None:
        """The guest's pool as it stands; None if nobody has made it, or it is no more."""
        row = get_all(self._table, [Key(POOLS, self._guest.pool)])[0]
        return None if row is None else pool_of(row)

    def spec_of(self, job: JobId) -> Digest | None:
        """The spec of a job of which the node holds an attempt now; None if it holds none."""
        with self._lock:
            return next((needs.spec for (task, _), needs in self._held.items() if task.job == job), None)

    def attempt_of(self, task: TaskId, *, least: int) -> bool:
        """Whether an attempt of the task, of that number or a later one, was granted to the guest."""
        with self._lock:
            if any(known == task and number >= least for known, number in self._held):
                return True
        row, job = get_all(self._table, [task_key(task), Key(jobs_of(self._guest.pool), task.job)])
        if row is None or job is None:
            return False
        found = [attempt.number for attempt in task_of(row, task.job).attempts if attempt.node == self._guest.node]
        return any(number >= least for number in found)

    def is_mine(self, task: TaskId, attempt: int) -> bool:
        """Whether that very attempt was granted to the guest."""
        with self._lock:
            if (task, attempt) in self._mine:
                return True
        row, job = get_all(self._table, [task_key(task), Key(jobs_of(self._guest.pool), task.job)])
        if row is None or job is None:
            return False
        found = _attempt(task_of(row, task.job), attempt)
        if found is None or found.node != self._guest.node:
            return False
        with self._lock:
            self._remember(task, attempt)
        return True

    def _judge(self, hold: Hold, job_row: Row | None, row: Row | None, nodes: Collection[NodeName]) -> Standing:
        if row is None:
            return Standing(hold=hold)
        task = task_of(row, hold.task.job)
        if job_row is None:
            raise _not_held(hold, f"its job is none of pool {self._guest.pool}")
        attempt = _attempt(task, hold.attempt)
        if attempt is None and hold.attempt <= task.forgotten_attempts:
            return Standing(hold=hold, task=task)
        if attempt is None or attempt.node not in nodes or attempt.nonce != hold.nonce:
            raise _not_held(hold, f"that was never granted to node {self._guest.node}")
        if task.state is not TaskState.CLAIMED or task.attempt != hold.attempt:
            return Standing(hold=hold, task=task)
        job: Job = job_of(job_row)
        return Standing(hold=hold, task=task, grant=Grant(job=job, task=task, version=row.version))

    def _note(self, answers: Sequence[Standing]) -> None:
        mine = [each.grant for each in answers if each.grant is not None and _holder(each.grant) == self._guest.node]
        self.granted(mine)
        self.ended(each.hold for each in answers if each.grant is None)

    def _remember(self, task: TaskId, attempt: int) -> None:
        self._mine[task, attempt] = None
        while len(self._mine) > REMEMBERED:
            self._mine.popitem(last=False)


def _attempt(task: Task, number: int) -> Attempt | None:
    return next((attempt for attempt in task.attempts if attempt.number == number), None)


def _holder(grant: Grant) -> NodeName | None:
    return grant.task.current.node if grant.task.current is not None else None


def _needs(grant: Grant) -> Needs:
    return Needs(spec=grant.job.spec, inputs=grant.task.inputs)


def _not_held(hold: Hold, why: str) -> AccessDenied:
    return AccessDenied(f"attempt {hold.attempt} of task {hold.task} is not this node's to change: {why}")
