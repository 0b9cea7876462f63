"""The Claims protocol: the agent's half of the queue.

An agent needs nothing else of the queue than this. `Queue` implements it over any table; behind a relay a node gets it
over HTTP. What an agent holds is a Grant; every call that changes a task takes one, so every write carries the attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kubeq.core.model import Ending, Job, JobId, Node, NodeName, NodeOrder, PoolId, Reach, Reason, Task, TaskId
from kubeq.core.packages import Package
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A task that this agent holds: its job, the task as last seen, and the row version of that."""

    job: Job
    task: Task
    version: int

    @property
    def attempt(self) -> int:
        return self.task.attempt

    @property
    def need(self) -> Resources:
        """What the attempt asks for: the task's own request, else the job's."""
        return self.task.resources or self.job.resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What an agent can take: `free` now for `starts` attempts, and `ahead` more to prepare while others run.

    `total` is what the node has at most: a task that does not fit it is reported, not claimed. Nothing is claimed ahead
    unless more tasks are due than `pool_slots`, so that the last tasks spread over the pool.
    """

    free: Resources
    total: Resources
    starts: int
    ahead: int = 0
    pool_slots: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a claim gave: grants in the order to start them, and due tasks that this node could never hold.

    `open_jobs` counts the jobs of the pool that have something unfinished and are neither paused nor killed, as far as
    this claim looked; it is 0 only if there are none.
    """

    grants: tuple[Grant, ...] = ()
    too_big: tuple[TaskId, ...] = ()
    open_jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The end of an attempt, to be recorded. `ending` LOST is never an agent's to say."""

    grant: Grant
    ending: Ending
    reason: Reason | None = None
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What changed about this agent's own rows: an order for the node, the newest package that it is told of, and
    grants that ought to be renewed at once.
    """

    order: NodeOrder | None = None
    packages: int = 0
    urgent: tuple[Grant, ...] = ()


class Claims(Protocol):
    """The agent's half of the queue. Every call may raise BackendError.

    Safe to use from several threads, but for one `claim` at a time.
    """

    @property
    def reach(self) -> Reach:
        """Whether asking often costs anything."""
        ...

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests it has made so far, by the service's own name for each kind."""
        ...

    def now(self) -> float:
        """The queue's time as well as this machine knows it, epoch seconds; makes no request."""
        ...

    def claim(self, pool: PoolId, node: NodeName, room: Room) -> Claimed:
        """Up to `starts + ahead` attempts of open jobs of the pool that fit. A collision is never an error.

        A claim whose answer was lost is granted by the next call.
        """
        ...

    def renew(self, grants: Sequence[Grant], started_at: Sequence[float | None]) -> Sequence[Grant | None]:
        """The leases extended by a term from now; None where the attempt has been superseded. Idempotent.

        The answer's `task.cancel_asked` says that the command is to be stopped.
        """
        ...

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        """The outcomes recorded, or the attempts released; None where the attempt has been superseded. Idempotent: an
        outcome that was recorded before, its answer lost, counts as recorded.
        """
        ...

    def look(self, node: Node, grants: Sequence[Grant]) -> Look:
        """One strongly consistent read of the agent's own rows; changes nothing."""
        ...

    def report(self, node: Node) -> Node:
        """The node's row written; answers with the user's `order` and with `packages` as they stand there."""
        ...

    def pin(self, job: JobId, name: str, value: str) -> str:
        """The value that holds for the whole job: `value` if nobody has pinned `name` before. Atomic."""
        ...

    def peers(self, pool: PoolId) -> Sequence[Node]:
        """The nodes of the pool as they last reported themselves."""
        ...

    def packages(self, pool: PoolId) -> Sequence[Package]:
        """What the pool's nodes unpack and start. One read, strongly consistent; none if nobody has made the pool."""
        ...

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or sooner if the queue may have changed."""
        ...
