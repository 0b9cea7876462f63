"""The words of the product as types: Job, Task, Attempt, Node, Pool and their enums.

Frozen records without behaviour. What may become of them is in `transitions`; how they are written is in `wire`.
Times end in `_at` (epoch seconds), durations in `_s` (seconds), sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from kubeq.core.digest import Digest
from kubeq.core.machines import Machine, Machines
from kubeq.core.packages import Package
from kubeq.core.requests import Requests
from kubeq.core.resources import Resources

JobId = NewType("JobId", str)
PoolId = NewType("PoolId", str)
NodeName = NewType("NodeName", str)


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """One task of one job. The index counts from 1 and is never reused."""

    job: JobId
    index: int

    def __str__(self) -> str:
        return f"{self.job}/{self.index}"


class Reach(StrEnum):
    """Who can see a store or a table: only this machine, or any machine with the right to."""

    HOST = "host"
    NETWORK = "network"


class TaskState(StrEnum):
    PENDING = "pending"
    CLAIMED = "claimed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({TaskState.PENDING, TaskState.CLAIMED})


class Reason(StrEnum):
    """Why an attempt or a task did not succeed. A closed list."""

    EXIT = "exit"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    INPUT = "input"
    IMAGE = "image"
    OUTPUT = "output"
    LOST = "lost"
    CANCELLED = "cancelled"


class Ending(StrEnum):
    """How one attempt ended. Only the first two say something about the command."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"
    CANCELLED = "cancelled"


class JobStatus(StrEnum):
    """Computed from the gates and the tasks, never stored."""

    INCOMPLETE = "incomplete"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NodeState(StrEnum):
    REQUESTED = "requested"
    STARTING = "starting"
    ACTIVE = "active"
    DRAINING = "draining"
    GONE = "gone"


class NodeOrder(StrEnum):
    """What the user asked of a node. All mean: claim nothing more and leave."""

    FINISH = "finish"
    """Finish what runs first."""
    RELEASE = "release"
    """Stop what runs and give it back."""
    SHRINK = "shrink"
    """Finish what runs first. Its pool is to be smaller: that its nodes were stopped is not said by that."""


class GoneReason(StrEnum):
    IDLE = "idle"
    DRAINED = "drained"
    PREEMPTED = "preempted"
    LOST = "lost"
    TERMINATED = "terminated"
    NEVER_STARTED = "never_started"
    SETUP = "setup"
    """What had to be done before its first attempt could not be done."""
    STRIKES = "strikes"
    """Too many tasks failed there one after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """What is known of how a command ended; data, never an exception.

    `code` is None when a signal ended it or when nothing ran. `never_started` holds the engine's own words when the
    command could not be started at all; `vanished` is true when the runtime lost sight of it (an engine that was
    restarted under it, a container that somebody else removed).
    """

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    never_started: str | None = None
    vanished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an attempt used, measured from its cgroup (or its process group); None where it could not be measured."""

    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One claim of one task and all that came of it. Its number is the fencing token.

    `nonce` is the claim's own random mark: an agent recognises its claim by it although the answer was lost.
    """

    number: int
    node: NodeName
    nonce: str
    claimed_at: float
    started_at: float | None = None
    ended_at: float | None = None
    ending: Ending | None = None
    reason: Reason | None = None
    exit: Exit | None = None
    usage: Usage | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One command with one set of parameters, and what became of it so far.

    `values` are the parameters in the order of the job's columns. `claimable_at` is, for a pending task, the time it
    may next be tried; for a claimed one, the end of its lease; for a finished one, None. `attempts` are the newest
    attempts, the current one last; `attempt` is its number and never goes down.
    """

    id: TaskId
    values: tuple[str, ...] = ()
    inputs: Digest | None = None
    resources: Resources | None = None
    state: TaskState = TaskState.PENDING
    reason: Reason | None = None
    claimable_at: float | None
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    cancel_asked: bool = False
    result: int | None = None
    outputs: int = 0
    attempts: tuple[Attempt, ...] = ()
    forgotten_attempts: int = 0

    @property
    def current(self) -> Attempt | None:
        """The attempt that holds the task, or the one that ended last; None before the first claim."""
        return self.attempts[-1] if self.attempts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits that a job's tasks live under. Part of the job row, so that a claim needs nothing else."""

    retries: int = 0
    loss_limit: int = 5
    lease_s: float = 120.0
    exclusive: bool = False
    strikes: int = 0
    """After so many of the job's tasks that failed in a row a node leaves; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one submission created. Afterwards only the gates change (sealed_at, paused, cancelled, open), and `nodes`.

    `nodes` is how many it is to have at most, as far as its user said (None: as its provider has it). `requests` are
    those that the command which sealed it had made until then.
    """

    id: JobId
    name: str
    pool: PoolId
    user: str
    host: str
    submitted_at: float
    total: int
    spec: Digest
    columns: tuple[str, ...]
    resources: Resources
    policy: Policy
    results_url: str
    sealed_at: float | None = None
    paused: bool = False
    cancelled: bool = False
    open: bool = True
    closed_at: float | None = None
    nodes: int | None = None
    requests: Requests | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One agent on one machine, as it last reported itself.

    `total` is what it has to give, `tasks` are what runs there now, `order` is what the user asked of it, `requests`
    are those it made in its life, for whatever job. `machine` is what a cloud made for it; `worked` whether it has ever
    started an attempt, `begun` whether its row has ever said that it works: also in an earlier life of its agent, which
    may have left something to deliver. `packages` is the number of the newest package that it has been told of.
    """

    name: NodeName
    pool: PoolId
    number: int
    provider: str
    state: NodeState
    host: str
    pid: int | None = None
    address: str | None = None
    total: Resources | None = None
    tasks: tuple[TaskId, ...] = ()
    requested_at: float
    started_at: float | None = None
    seen_at: float | None = None
    ended_at: float | None = None
    gone: GoneReason | None = None
    note: str | None = None
    version: str | None = None
    order: NodeOrder | None = None
    machine: Machine | None = None
    worked: bool = False
    begun: bool = False
    packages: int = 0
    requests: Requests | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The nodes that may run each other's tasks. Node numbers are given out from `nodes` and never reused.

    `hosts` are the user's own machines that its nodes may be on, a line each as in a hosts file.
    `outfit` is what is done to each of its nodes around their attempts, the blob of an `Outfit`.
    `archives` are the agent archives that its nodes come from, the newest last: blobs that are needed as long as there
    is the pool. `machines` is what its nodes are where a cloud makes them. `numbered_at` is when numbers were given out
    last, and `numbered_from` the first of which nobody may know what came of it. `packages` are those that its nodes
    start, in that order, also nodes that come later.
    """

    id: PoolId
    provider: str
    private: bool
    created_at: float
    nodes: int = 0
    hosts: tuple[str, ...] = ()
    outfit: Digest | None = None
    archives: tuple[Digest, ...] = ()
    machines: Machines | None = None
    numbered_at: float | None = None
    numbered_from: int = 1
    packages: tuple[Package, ...] = ()
