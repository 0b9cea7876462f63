"""The agent's half of the queue over any table: renew, finish, look, report; claiming is in `claiming`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kubeq.core import transitions
from kubeq.core.clock import Clock
from kubeq.core.machines import with_id
from kubeq.core.model import Ending, JobId, Node, NodeName, PoolId, Reach, Task, TaskState
from kubeq.core.nodes import has_begun
from kubeq.core.packages import Package
from kubeq.errors import BackendError, IllegalTransition, KubeqError
from kubeq.queue.base import Change, Key, RecordTable, Row, Swapped
from kubeq.queue.claiming import Claimer
from kubeq.queue.claims import Claimed, Final, Grant, Look, Room
from kubeq.queue.looking import Listings
from kubeq.queue.rows import (
    POOLS,
    node_change,
    node_of,
    node_row,
    nodes_of,
    pin_of,
    pin_row,
    pool_of,
    task_change,
    task_key,
    task_of,
)
from kubeq.queue.swaps import batches, edit_row, edit_tasks, get_all, insist, swap_all
from kubeq.queue.sweeping import list_all
from kubeq.queue.takeover import Takeovers


class Granting:
    """The Claims protocol over a table. One object an agent.

    `takeovers` decides when expired leases may be taken over; without it, this machine's own clocks do.
    """

    def __init__(self, table: RecordTable, clock: Clock, takeovers: Takeovers | None = None) -> None:
        self._table = table
        self._claimer = Claimer(table, clock, takeovers)
        self._listings = Listings()

    @property
    def reach(self) -> Reach:
        return self._table.reach

    @property
    def requests(self) -> Mapping[str, int]:
        """Those of the table."""
        return self._table.requests

    def now(self) -> float:
        """See `Claims.now`."""
        return self._claimer.now()

    def claim(self, pool: PoolId, node: NodeName, room: Room) -> Claimed:
        """See `Claims.claim`."""
        return self._claimer.claim(pool, node, room)

    def renew(self, grants: Sequence[Grant], started_at: Sequence[float | None]) -> Sequence[Grant | None]:
        """See `Claims.renew`."""
        now = self.now()
        renewed = []
        for grant, started in zip(grants, started_at, strict=True):
            task = transitions.renew(
                grant.task, attempt=grant.attempt, now=now, policy=grant.job.policy, started_at=started
            )
            renewed.append((grant, started, task, task_change(task, grant.version)))
        answers = swap_all(self._table, [change for _, _, _, change in renewed])
        result: list[Grant | None] = []
        for (grant, started, task, change), answer in zip(renewed, answers, strict=True):
            if isinstance(answer, Swapped):
                result.append(replace(grant, task=task, version=change.version + 1))
            else:
                result.append(self._renew_standing(grant, started, answer.row, now))
                if result[-1] is None:
                    self._claimer.finished(grant)
        return result

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        """See `Claims.finish`."""
        answers: list[Task | None] = []
        for batch in batches(finals, self._table.batch):
            changes = []
            for final in batch:
                task = _ended(final.grant.task, final)
                changes.append((final, task, task_change(task, final.grant.version)))
            swapped = swap_all(self._table, [change for _, _, change in changes])
            for (final, task, _), answer in zip(changes, swapped, strict=True):
                self._claimer.finished(final.grant)
                answers.append(task if isinstance(answer, Swapped) else self._finish_standing(final, answer.row))
        return answers

    def look(self, node: Node, grants: Sequence[Grant]) -> Look:
        """See `Claims.look`."""
        keys = [Key(nodes_of(node.pool), node.name), *(task_key(grant.task.id) for grant in grants)]
        rows = get_all(self._table, keys)
        own = node_of(rows[0]) if rows[0] is not None else node
        urgent = [
            grant
            for grant, row in zip(grants, rows[1:], strict=True)
            if row is None or (row.version != grant.version and not _same_claim(grant, row))
        ]
        return Look(order=own.order, packages=own.packages, urgent=tuple(urgent))

    def report(self, node: Node) -> Node:
        """See `Claims.report`."""

        def edit(row: Row) -> Change:
            standing = node_of(row)
            asked_at = node.requested_at if standing.machine is None else min(node.requested_at, standing.requested_at)
            begun = has_begun(node) or has_begun(standing)
            kept = replace(node, order=standing.order, packages=standing.packages, requested_at=asked_at, begun=begun)
            return node_change(replace(kept, machine=with_id(node.machine, standing.machine)), row.version)

        key = Key(nodes_of(node.pool), node.name)
        written = edit_row(self._table, key, f"node {node.name}", edit)
        if written is None:
            first = replace(node, begun=has_begun(node))
            standing = insist(lambda: self._table.insert([node_row(first)]))[0]
            return first if standing is None else self.report(node)
        return node_of(written)

    def pin(self, job: JobId, name: str, value: str) -> str:
        """See `Claims.pin`."""
        row = pin_row(job, name, value)
        standing = insist(lambda: self._table.insert([row]))[0]
        return value if standing is None else pin_of(standing)

    def peers(self, pool: PoolId) -> Sequence[Node]:
        """See `Claims.peers`."""
        return list(self._listings.read(list_all(self._table, nodes_of(pool)), node_of))

    def packages(self, pool: PoolId) -> Sequence[Package]:
        """See `Claims.packages`."""
        row = get_all(self._table, [Key(POOLS, pool)])[0]
        return () if row is None else pool_of(row).packages

    def wait(self, seconds: float) -> None:
        """See `Claims.wait`."""
        self._table.wait(seconds)

    def _renew_standing(self, grant: Grant, started: float | None, row: Row | None, now: float) -> Grant | None:
        """The renewal of a grant whose row somebody has changed (a cancel, or an earlier renewal of ours)."""
        if row is None:
            return None

        def edit(task: Task) -> Task:
            return transitions.renew(task, attempt=grant.attempt, now=now, policy=grant.job.policy, started_at=started)

        answer = edit_tasks(self._table, grant.job.id, [row], edit)[0]
        if isinstance(answer, IllegalTransition):
            return None
        if isinstance(answer, KubeqError):
            raise answer
        task, version = answer
        return replace(grant, task=task, version=version)

    def _finish_standing(self, final: Final, row: Row | None) -> Task | None:
        """The end of an attempt whose row somebody has changed, or that was recorded before with the answer lost."""
        if row is None:
            return None
        mine = final.grant.task.current
        standing = task_of(row, final.grant.job.id)
        ended = ending_of(standing, mine.nonce) if mine is not None else None
        if ended is not None:
            return standing if stands_as(final.ending, ended) else None
        answer = edit_tasks(self._table, final.grant.job.id, [row], lambda task: _ended(task, final))[0]
        if isinstance(answer, IllegalTransition):
            return None
        if isinstance(answer, KubeqError):
            raise answer
        return answer[0]


def ending_of(task: Task, nonce: str) -> Ending | None:
    """How the attempt of that mark stands in the task's history; None if it has not ended, or is not there."""
    return next((attempt.ending for attempt in task.attempts if attempt.nonce == nonce), None)


def stands_as(said: Ending, recorded: Ending) -> bool:
    """Whether that is how the end stands that an agent told: if a stop was a release or a cancel, the row decided."""
    stops = (Ending.RELEASED, Ending.CANCELLED)
    return said is recorded or (said in stops and recorded in stops)


def _same_claim(grant: Grant, row: Row) -> bool:
    """Whether the row is still this grant's with no cancel asked: only a renewal of ours has changed it."""
    try:
        task = task_of(row, grant.job.id)
    except BackendError:
        return False
    current, mine = task.current, grant.task.current
    same = current is not None and mine is not None and current.nonce == mine.nonce
    return same and task.state is TaskState.CLAIMED and task.cancel_asked == grant.task.cancel_asked


def _ended(task: Task, final: Final) -> Task:
    """The task after that end of its current attempt."""
    attempt, report = final.grant.attempt, final.report
    match final.ending:
        case Ending.SUCCEEDED:
            return transitions.succeed(task, attempt=attempt, report=report)
        case Ending.FAILED:
            assert final.reason is not None
            policy = final.grant.job.policy
            return transitions.fail(task, attempt=attempt, reason=final.reason, report=report, policy=policy)
        case Ending.CANCELLED if task.cancel_asked:
            return transitions.stopped(task, attempt=attempt, report=report)
        case Ending.CANCELLED | Ending.RELEASED:
            return transitions.release(task, attempt=attempt, report=report)
        case Ending.LOST:
            raise AssertionError("an agent never says that its own attempt was lost")
