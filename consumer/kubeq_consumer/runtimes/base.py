"""The Runtime protocol: how an agent runs one command, and what it may ask of it.

The life of an execution: `create` (everything but the start, so that it can be done ahead), perhaps `park` (all of the
start but the command itself), then `start` or `discard`.
After `start`: `quiet` until it holds, `wait` until it answers, then `remove`. A runtime never raises for how a command
ended; that is an Exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kubeq.core.model import Exit, NodeName, TaskId, Usage
from kubeq.core.resources import Resources
from kubeq.core.spec import Mount, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One command to run, with everything that surrounds it.

    `image` is the pinned name (None for the process runtime). `work` is the attempt's work directory on the node;
    `directory` is where in it the command starts. A runtime may keep files of its own beside `work` whose names begin
    with its name. `slot` numbers the place among those that run side by side: two executions at one time never have the
    same. `peers` is the list of the pool's nodes, in a folder that holds nothing else: the command finds it by
    `KUBEQ_PEERS`, and no container can write it. `devices` are the GPUs it sees, by the driver's numbers.
    `checkpoint` is the folder, found by `KUBEQ_CHECKPOINT`, of which the next attempt gets what this one leaves there.
    """

    task: TaskId
    attempt: int
    node: NodeName
    slot: int
    image: str | None
    entrypoint: tuple[str, ...] | None
    command: tuple[str, ...]
    work: Path
    directory: str
    environment: tuple[tuple[str, str], ...]
    user: str | None
    network: Network
    resources: Resources
    shm_size: int | None
    mounts: tuple[Mount, ...]
    peers: Path | None = None
    devices: tuple[int, ...] = ()
    checkpoint: Path | None = None


class Sink(Protocol):
    """Where output goes: any binary file, or whatever takes bytes as one does."""

    def write(self, chunk: bytes, /) -> object:
        """Take them. Raises OSError if that cannot be done; the rest of the output is then dropped."""
        ...


class Runtime(Protocol):
    """Safe to use from several threads. Failures of the engine itself are BackendError."""

    name: str

    def resolve(self, image: str) -> str:
        """The digest-pinned name of an image (a registry digest, or the engine's id for an image without one).

        Pulls it if it is not there. Raises ImageUnavailable, with the engine's reason.
        """
        ...

    def prepare(self, image: str) -> None:
        """Have the pinned image on this node. Raises ImageUnavailable."""
        ...

    def create(self, execution: Execution) -> Created:
        """Everything but the start. Raises ImageUnavailable, or BackendError if the engine refuses."""
        ...

    def leftovers(self) -> Sequence[Leftover]:
        """What agents that are dead now left running or lying on this machine, and what this runtime gave up.

        Looked up anew at each call, and cheap enough for a call before an attempt: one request or listing.
        """
        ...

    def close(self) -> None:
        """Let go of what the runtime keeps for itself (network namespaces, connections). Safe twice."""
        ...


class Created(Protocol):
    """An execution that could start at once."""

    def park(self, output: Sink) -> bool:
        """Do ahead what can be done of the start, so that `start`, which then gets the same output, is quick.

        Nothing of the command runs, and it never does if the agent dies. False if this runtime has nothing to do ahead.
        Never raises: what fails is said by `start`. Called once at most.
        """
        ...

    def start(self, output: Sink) -> Running:
        """Run it; stdout and stderr go to `output` in their real order, from a thread of the runtime's own.

        `output.write` is called with chunks as they come and never concurrently. A command that cannot be started at
        all gives a Running whose `wait` answers `never_started`.
        """
        ...

    def discard(self) -> None:
        """Remove it without having run, parked or not. Safe twice."""
        ...


class Running(Protocol):
    """A command that was started."""

    def quiet(self, timeout: float) -> bool:
        """Whether nothing of it runs any more, after at most `timeout` seconds: its cpu, memory and ports are free.

        Never before its last process has ended or was given up, and never taken back; at the latest when `wait`
        answers, which may be much later. Never raises.
        """
        ...

    def wait(self, timeout: float) -> Exit | None:
        """How it ended, once all its output has been written; None if it still runs after `timeout` seconds.

        Raises BackendError if `output.write` had raised OSError: what is stored of the output is then not all of it.
        """
        ...

    def usage(self) -> Usage:
        """What it has used up to now, or in all once it ended. Cheap; never raises."""
        ...

    def stop(self, grace: float) -> None:
        """TERM, then KILL after `grace` seconds, to the whole tree. Returns at once.

        The first call decides; a later one can only bring the KILL forward. What does not end even so is given up after
        a bound where the runtime can: `wait` then answers `vanished`.
        """
        ...

    def remove(self) -> None:
        """After the end: remove the container, give files back to their owner. Safe twice; never raises."""
        ...


class Leftover(Protocol):
    """Something that a dead agent left on this machine, or that this one gave up.

    What belongs to no task (the network of a slot) has `task` None and attempt 0.
    """

    @property
    def task(self) -> TaskId | None: ...

    @property
    def attempt(self) -> int: ...

    @property
    def node(self) -> NodeName: ...

    def remove(self) -> None:
        """Stop and remove it; nothing of it runs on return. Raises BackendError if that cannot be done."""
        ...
