"""Claiming: which due rows an agent tries for, and what it makes of the answers.

The rules of a single task are in `core.transitions`; here is only how many rows are asked for, in what order, and what
a lost answer or a collision means.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from secrets import token_hex

from kubeq.core import transitions
from kubeq.core.clock import Clock
from kubeq.core.model import Job, JobId, NodeName, PoolId, Task, TaskId, TaskState
from kubeq.core.resources import Resources, fits, minus
from kubeq.errors import IllegalTransition, KubeqError, VersionMismatch
from kubeq.queue.base import Change, Cursor, Key, Page, RecordTable, Row, Swapped
from kubeq.queue.claims import Claimed, Grant, Room
from kubeq.queue.rows import job_of, jobs_of, task_change, task_key, task_of, tasks_of
from kubeq.queue.swaps import get_all, insist, swap_all
from kubeq.queue.sweeping import close_if_done, sweep
from kubeq.queue.takeover import TakeoverGuard, Takeovers

OPEN_JOBS_PAGE = 1000
JOB_PAGES_PER_CLAIM = 4
"""How many pages of open jobs one claim asks while it has room; the next claim goes on from there."""
WIDEST_WINDOW = 256
PAGES_PER_CLAIM = 20
"""How many pages of rows that do not fit one claim passes over; the next claim goes on from there."""
TOO_BIG_REPORTED = 10


@dataclass(frozen=True, slots=True)
class _Asked:
    """What asking one job came to."""

    granted: tuple[Grant, ...]
    too_big: tuple[TaskId, ...]
    nothing_due: bool


class Claimer:
    """Claims for one agent: it remembers collisions, unanswered claims, and where it left off among rows too big and
    among more jobs than one claim asks."""

    def __init__(self, table: RecordTable, clock: Clock, takeovers: Takeovers | None = None) -> None:
        self._table = table
        self._clock = clock
        self._takeovers = takeovers or TakeoverGuard(clock)
        self._unanswered: dict[Key, tuple[Job, Change, str]] = {}
        self._collisions = 0
        self._held: dict[Key, str] = {}
        self._closable: set[JobId] = set()
        self._swept_at: dict[JobId, float] = {}
        self._counted_at: dict[JobId, float] = {}
        self._passed: dict[JobId, Cursor] = {}
        self._left_off: dict[PoolId, Cursor] = {}

    def now(self) -> float:
        """The backend's time as well as this machine knows it, epoch seconds."""
        return self._clock.now() + self._table.clock_offset()

    def finished(self, grant: Grant) -> None:
        """The attempt is not ours to hold any more; and it may be time to close its job."""
        self._held.pop(task_key(grant.task.id), None)
        self._closable.add(grant.job.id)

    def claim(self, pool: PoolId, node: NodeName, room: Room) -> Claimed:
        """See `Claims.claim`. Takes the oldest tasks first until it meets a collision, then spreads at random."""
        if room.pool_slots >= WIDEST_WINDOW:  # no look is wide enough to see more tasks than the pool has slots
            room = replace(room, ahead=0)
        grants = self._answered()
        room = less(room, grants)
        too_big: list[TaskId] = []
        wanted = 0
        start = cursor = self._left_off.pop(pool, None)
        for _ in range(JOB_PAGES_PER_CLAIM):
            jobs, cursor = self._open_jobs(pool, cursor)
            for job, version in jobs:
                asked = self._ask(job, version, node, room)
                room = less(room, asked.granted)
                grants.extend(asked.granted)
                too_big.extend(asked.too_big)
                wanted += not job.paused and not job.cancelled
            if cursor is None or (room.starts <= 0 and room.ahead <= 0):
                break
        else:
            if cursor is not None:
                self._left_off[pool] = cursor
        for grant in grants:  # not before nothing can go wrong any more: else the next call finds them
            self._unanswered.pop(task_key(grant.task.id), None)
            if grant.task.current is not None:
                self._held[task_key(grant.task.id)] = grant.task.current.nonce
        unseen = start is not None or cursor is not None
        return Claimed(grants=tuple(grants), too_big=tuple(too_big), open_jobs=max(wanted, int(unseen)))

    def _open_jobs(self, pool: PoolId, after: Cursor | None) -> tuple[list[tuple[Job, int]], Cursor | None]:
        """A page of the open jobs of a pool, oldest first, with their row versions; those of a newer kubeq are left
        out. And where the next page begins."""
        page = insist(lambda: self._table.due(jobs_of(pool), float("inf"), after, OPEN_JOBS_PAGE))
        jobs = []
        for row in page.rows:
            try:
                jobs.append((job_of(row), row.version))
            except VersionMismatch:
                continue
        return jobs, page.after

    def _ask(self, job: Job, version: int, node: NodeName, room: Room) -> _Asked:
        """What one open job has for this node; the job closed if nothing of it is left."""
        if job.paused or job.cancelled:
            self._sweep(job)
            self._close_if_done(job, version)
        elif room.starts > 0 or room.ahead > 0:
            asked = self._claim_of(job, node, room)
            if asked.nothing_due:  # while anything is due, counting the whole job would be for nothing
                self._close_if_done(job, version)
            return asked
        return _Asked((), (), nothing_due=False)

    def _claim_of(self, job: Job, node: NodeName, room: Room) -> _Asked:
        """Grants from one job, and due tasks that this node could never hold."""
        granted: list[Grant] = []
        too_big: list[TaskId] = []
        nothing_due = False
        cursor = self._passed.pop(job.id, None)
        for _ in range(PAGES_PER_CLAIM):
            wanted = min(room.starts, ceil(room.free.cpu / job.resources.cpu)) + room.ahead
            if wanted <= 0:
                break
            window = self._window(wanted, room)
            page = insist(partial(self._due, job.id, cursor, window))
            nothing_due = not page.rows and not granted and not too_big
            candidates, rejected = self._candidates(job, page.rows, room)
            too_big.extend(rejected)
            won = self._take(job, node, candidates)
            granted.extend(won)
            room = less(room, won)
            cursor = page.after
            if cursor is None:
                break
        else:
            if cursor is not None and not granted:
                self._passed[job.id] = cursor
        return _Asked(tuple(granted), tuple(too_big[:TOO_BIG_REPORTED]), nothing_due)

    def _due(self, job: JobId, after: Cursor | None, limit: int) -> Page:
        return self._table.due(tasks_of(job), self.now(), after, limit)

    def _window(self, wanted: int, room: Room) -> int:
        """How many due rows to ask for: each costs a read somewhere.

        Enough to spread over after collisions; and where something may be claimed ahead, to see whether more are due
        than the pool has slots.
        """
        spread = 4 * wanted << min(self._collisions, 6) if self._collisions else 0
        seen = room.pool_slots if room.ahead > 0 else 0
        return min(WIDEST_WINDOW, max(spread, wanted + seen + 1))

    def _candidates(self, job: Job, rows: Sequence[Row], room: Room) -> tuple[list[tuple[Task, int]], list[TaskId]]:
        """The due tasks of a page to try for, chosen among those that fit, and those that never can."""
        takeover = self._takeovers.allows(clock_offset=self._table.clock_offset(), lease_s=job.policy.lease_s)
        fitting: list[tuple[Task, int]] = []
        too_big: list[TaskId] = []
        for row in rows:
            try:
                task = task_of(row, job.id)
            except KubeqError:
                continue  # written by a newer kubeq, or not by kubeq: left as it is
            need = task.resources or job.resources
            if not fits(need, room.total):
                too_big.append(task.id)
            elif task.state is TaskState.PENDING or (takeover and not self._holds(task)):
                fitting.append((task, row.version))
        if self._collisions:
            random.shuffle(fitting)
        chosen: list[tuple[Task, int]] = []
        starts, free = room.starts, room.free
        ahead = room.ahead if len(fitting) > room.pool_slots else 0
        for task, version in fitting:
            need = task.resources or job.resources
            if starts > 0 and fits(need, free):
                free, starts = minus(free, need), starts - 1
            elif ahead > 0:
                ahead -= 1
            else:
                continue
            chosen.append((task, version))
        return chosen, too_big

    def _holds(self, task: Task) -> bool:
        """Whether the lease that ran out is this agent's own: its outcome is still to be delivered, nothing is lost."""
        current = task.current
        return current is not None and self._held.get(task_key(task.id)) == current.nonce

    def _take(self, job: Job, node: NodeName, candidates: Sequence[tuple[Task, int]]) -> list[Grant]:
        """The grants among the candidates: one batched swap; a loser is simply not granted."""
        now = self.now()
        pending: list[tuple[Task, Change]] = []
        for task, version in candidates:
            nonce = self._nonce(task_key(task.id), version)
            try:
                claimed = transitions.claim(task, node=node, nonce=nonce, now=now, policy=job.policy)
            except IllegalTransition:
                continue
            change = task_change(claimed, version)
            pending.append((claimed, change))
            if claimed.state is TaskState.CLAIMED:
                self._unanswered[change.key] = (job, change, nonce)
        if not pending:
            return []
        answers = swap_all(self._table, [change for _, change in pending])
        grants, lost = [], 0
        for (task, change), answer in zip(pending, answers, strict=True):
            if not isinstance(answer, Swapped):
                self._unanswered.pop(change.key, None)
                lost += 1
            elif task.state is TaskState.CLAIMED:
                grants.append(Grant(job=job, task=task, version=change.version + 1))
            else:
                self._closable.add(job.id)
        self._collisions = self._collisions + 1 if lost else max(0, self._collisions - 1)
        return grants

    def _answered(self) -> list[Grant]:
        """Claims of ours whose answer was lost and that did land; those that did not are forgotten."""
        if not self._unanswered:
            return []
        asked = list(self._unanswered.items())
        rows = get_all(self._table, [key for key, _ in asked])
        grants = []
        for (key, (job, change, nonce)), row in zip(asked, rows, strict=True):
            if row is not None and row.version == change.version:
                continue  # not landed yet; a request that is still under way may land later
            task = None if row is None else _claim_in(row, job, nonce)
            if row is None or task is None:
                del self._unanswered[key]
            else:
                grants.append(Grant(job=job, task=task, version=row.version))
        return grants

    def _nonce(self, key: Key, version: int) -> str:
        """The mark of a claim of that row version; the same again if one was sent before and may still land."""
        _, change, nonce = self._unanswered.get(key, (None, None, ""))
        return nonce if change is not None and change.version == version else token_hex(8)

    def _sweep(self, job: Job) -> None:
        """Expired leases of a paused or killed job ended without starting anything; at most once a third of a term."""
        now, monotonic = self.now(), self._clock.monotonic()
        last = self._swept_at.get(job.id)
        if last is not None and monotonic - last < job.policy.lease_s / 3:
            return
        if not self._takeovers.allows(clock_offset=self._table.clock_offset(), lease_s=job.policy.lease_s):
            return
        self._swept_at[job.id] = monotonic
        if sweep(self._table, job, now):
            self._closable.add(job.id)

    def _close_if_done(self, job: Job, version: int) -> None:
        """Close the job if nothing of it is unfinished. Asked after a finish of ours, else once a third of a term."""
        monotonic = self._clock.monotonic()
        if job.id not in self._closable:
            last = self._counted_at.setdefault(job.id, monotonic)
            if monotonic - last < job.policy.lease_s / 3:
                return
            self._counted_at[job.id] = monotonic
        self._closable.discard(job.id)
        close_if_done(self._table, job, version, self.now())


def _claim_in(row: Row, job: Job, nonce: str) -> Task | None:
    """The task of a row that the claim of that nonce holds."""
    task = task_of(row, job.id)
    current = task.current
    return task if task.state is TaskState.CLAIMED and current is not None and current.nonce == nonce else None


def less(room: Room, grants: Sequence[Grant]) -> Room:
    """The room left when those have been granted."""
    for grant in grants:
        room = _less(room, grant.need)
    return room


def _less(room: Room, need: Resources) -> Room:
    """The room left when one more attempt of that need is granted: to start if it can, else ahead."""
    if room.starts > 0 and fits(need, room.free):
        return replace(room, free=minus(room.free, need), starts=room.starts - 1)
    return replace(room, ahead=max(0, room.ahead - 1))
