"""The NodeProvider protocol: makes machines (here: agent processes) appear and disappear. It remembers nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from kubeq.core.digest import Digest
from kubeq.core.machines import Machine, Machines, Offer
from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.nodes.forms import StoredAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCapabilities:
    """What a provider can do and needs; callers ask this and never which provider it is."""

    reach: Reach
    """HOST: its nodes see what is on this machine; NETWORK: queue and store must be reachable from elsewhere."""
    costs_money: bool
    relays: bool = False
    """Its nodes reach what only this machine can see through a relay that runs here."""
    look_every_s: float = 0.5
    """How often it is worth to observe its nodes while somebody waits for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaying:
    """How nodes that see nothing of this machine take part in its queue and store: through a relay that runs here.

    `socket` is where it listens. `admit` gives the token with which the node of that name and number may come, from the
    machine that is named last.
    """

    socket: Path
    admit: Callable[[NodeName, int, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """What every node of one launch is told. Durations in seconds.

    Results and logs go to the store at `store_url`; inputs are read from the one at `blobs_url`, usually the same.

    `linger_s` is how long a node stays without work; `until_idle` lets a private pool's node leave as soon as its pool
    has no open job. `outfit` is the blob of what is done around the attempts. `limit` is the most that the node may
    give to attempts (None: the whole machine). `relay`: the three URLs are this machine's, and only through the relay
    can the node reach what they name. For nodes that a cloud makes: `machines` is what they are, `agent` what they
    fetch and become, `environ` where the cloud is to be found if not where everybody finds it, `key` the public SSH key
    with which one may log in there, `owner` whose they are. `containers`: only nodes that can run some are of use.
    """

    pool: PoolId
    queue_url: str
    store_url: str
    blobs_url: str
    state_dir: Path
    cache_dir: Path
    linger_s: float
    linger_others_s: float
    poll_s: float
    until_idle: bool = False
    outfit: Digest | None = None
    limit: Resources | None = None
    relay: Relaying | None = None
    machines: Machines | None = None
    agent: StoredAgent | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    owner: str = ""
    containers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """The node is coming up."""

    name: NodeName
    pid: int | None = None
    machine: Machine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The node is not coming, for the provider's own reason."""

    name: NodeName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the provider sees of a node now. `reason` is why it is dead, or what a live one suffers from.

    `machine` is what a cloud made for it and `made_at` when; `preempted`: the cloud took it back.
    """

    name: NodeName
    alive: bool
    pid: int | None = None
    reason: str | None = None
    address: str | None = None
    undelivered: bool = False
    """It left outcomes that the next agent there delivers: its attempts are not lost."""
    machine: Machine | None = None
    made_at: float | None = None
    preempted: bool = False
    ending: bool = False
    """It shuts down: no more is to be expected of it, but its agent may still be giving back what it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A machine of a cloud that was made by kubeq: for which node of whose pool. `state` is the cloud's word."""

    name: NodeName
    pool: PoolId
    owner: str
    machine: Machine
    made_at: float
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSeen:
    """One of the user's own hosts as it is now. `problem` says why it cannot be used; then the rest may be unknown.

    `python` is the newest Python's version; `docker` that of an engine that answers; `free` bytes for agents.
    """

    name: str
    address: str
    labels: tuple[tuple[str, str], ...] = ()
    machine: str | None = None
    python: str | None = None
    docker: str | None = None
    cpus: int | None = None
    free: int | None = None
    problem: str | None = None


class NodeProvider(Protocol):
    """Its truth is what `observe` says. Every call may raise BackendError."""

    name: ClassVar[str]
    capabilities: NodeCapabilities

    def largest(self) -> Resources | None:
        """The most that any of its nodes can give to one attempt; None if that is not known beforehand."""
        ...

    def offers(self, machines: Machines) -> Sequence[Offer]:
        """What a cloud has that fits, in the order in which it would be tried; none for who makes no machines.

        Raises UsageError or BackendError for whatever of it the cloud does not have, is not allowed or lacks the quota
        for: a region, zone, type, image, subnet, identity. Launches nothing.
        """
        ...

    def owned(self) -> Sequence[Owned]:
        """Every machine that still stands (or is stopped) in the account and was made by kubeq, for whatever pool."""
        ...

    def console(self, name: NodeName) -> str | None:
        """What the node's machine has printed on its console, as far as it is kept; None if there is nothing."""
        ...

    def boot_text(self, request: NodeRequest, name: NodeName, number: int, machine: Machine) -> str | None:
        """All that such a machine runs at its first boot as that node; None for who makes no machines. No request."""
        ...

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        """The user's own hosts that the pool's nodes may be on, looked at now; none for other providers."""
        ...

    def usual(self, tasks: int) -> int:
        """How many nodes a job gets that has so many tasks left, when nobody says how many."""
        ...

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        """Start nodes of those names and numbers; returns at once. Idempotent by name: a live one is Launched."""
        ...

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        """Every node of the pool that the provider still knows, dead ones included."""
        ...

    def silent(self, pool: PoolId) -> Mapping[str, str]:
        """The addresses (as in `Node.address`) of which the last `observe` could learn nothing, and why. No request."""
        ...

    def terminate(self, names: Sequence[NodeName]) -> None:
        """Ask them to give back what they run and leave; unknown or dead: no error."""
        ...

    def command(self, node: Node, words: Sequence[str], *, terminal: bool) -> list[str]:
        """What to run here so that those words run on that very node, as its agent's user; no words: a shell.

        Stdin, stdout, stderr and the exit code are those of the words; `terminal`: they get one. Raises NotFound for a
        machine that is not known any more.
        """
        ...

    def forget(self, pool: PoolId | None, older_s: float) -> None:
        """Drop what is kept of nodes that ended so long ago: those of a pool that was forgotten; None: of every pool.

        With None, a node whose outcomes were not all delivered stays: the next one of its pool delivers them.
        """
        ...


class NoMachines:
    """The part of NodeProvider that is about machines of a cloud, for providers that make none."""

    def offers(self, machines: Machines) -> Sequence[Offer]:
        """None."""
        return ()

    def owned(self) -> Sequence[Owned]:
        """None."""
        return ()

    def console(self, name: NodeName) -> str | None:
        """Nothing is kept."""
        return None

    def boot_text(self, request: NodeRequest, name: NodeName, number: int, machine: Machine) -> str | None:
        """Nothing boots."""
        return None
