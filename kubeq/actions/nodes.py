"""The nodes there are and were, and asking one to leave: what nodes say of themselves, and what the provider sees."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kubeq.actions.fleet import end_of, stands_idle
from kubeq.actions.launching import SEEN_RECENTLY_S, seen_of
from kubeq.actions.session import Session
from kubeq.core.model import GoneReason, Job, Node, NodeName, NodeOrder, NodeState, Pool, PoolId, TaskId, TaskState
from kubeq.errors import BackendError, Conflict, NotFound, UsageError
from kubeq.nodes.base import Observation

RECENTLY_S = 3600.0
"""Nodes that left longer ago are listed only on demand."""
MOST_NODES = 256
"""More agents than this on one machine are a slip of the finger."""
ADDRESS_S = 120.0
"""How long machines are waited for that have no address yet; a cloud gives one within seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node as it stands; `because` is the provider's or the agent's own word on why it is as it is.

    `orphaned`: it has left, and its machine has not.
    """

    node: Node
    because: str | None = None
    orphaned: bool = False


def list_nodes(session: Session, job: Job | None = None, *, every: bool = False) -> list[NodeFacts]:
    """Nodes of the job's pool, or of all pools, by pool and number: the live ones and those that left recently."""
    known = {pool.id: pool for pool in session.queue.pools()}
    pools = list(known.values()) if job is None else [known[job.pool]] if job.pool in known else []
    found = [facts for pool in pools for facts in _of_pool(session, pool)]
    oldest = session.clock.now() - RECENTLY_S
    return [
        facts
        for facts in sorted(found, key=lambda facts: (facts.node.requested_at, facts.node.number))
        if every or facts.node.state is not NodeState.GONE or (facts.node.ended_at or 0.0) >= oldest
    ]


def died_since(job: Job, node: Node) -> bool:
    """Whether the node died after the job was submitted: what counts as running may be there."""
    return node.gone is GoneReason.LOST and (node.ended_at or job.submitted_at) >= job.submitted_at


def nodes_behind(session: Session, job: Job, *, running: bool) -> list[NodeFacts]:
    """Nodes of the job's pool, the live ones and those that left recently; with tasks that count as running also all
    that have died since it was submitted.
    """
    if not running:
        return list_nodes(session, job)
    oldest = session.clock.now() - RECENTLY_S
    return [
        facts
        for facts in list_nodes(session, job, every=True)
        if facts.node.gone is None or (facts.node.ended_at or 0.0) >= oldest or died_since(job, facts.node)
    ]


def find_node(session: Session, text: str) -> Node:
    """The live node of that name or number, or of the only name that begins so. Raises NotFound or Conflict."""
    live = [facts.node for facts in list_nodes(session) if facts.node.state is not NodeState.GONE]
    for found in (
        [node for node in live if node.name == text],
        [node for node in live if text.isdigit() and node.number == int(text)],
        [node for node in live if text and node.name.startswith(text)],
    ):
        if len(found) > 1:
            names = ", ".join(node.name for node in found)
            raise Conflict(f"{text!r} could be any of {len(found)} nodes: {names}", hint="type the whole name")
        if found:
            return found[0]
    raise NotFound(f"there is no live node {text!r}", hint="kubeq nodes lists them")


def drain_node(session: Session, node: Node) -> None:
    """Ask the node to finish what it runs, to claim no more and to leave. Raises Conflict if it cannot be told."""
    if session.queue.order(node, NodeOrder.FINISH) is None:
        raise Conflict(
            f"node {node.name} cannot be asked yet: it has not reported itself", hint=f"kubeq nodes --stop {node.name}"
        )


def write_addresses(session: Session, pool: PoolId, names: Sequence[NodeName], path: Path) -> tuple[NodeName, ...]:
    """A file with the address of each of those nodes, a line each: a hosts file, written as addresses become known.

    The names of those that have none yet, or ended. Raises BackendError.
    """
    deadline = session.clock.monotonic() + ADDRESS_S
    while True:
        seen = seen_of(session, pool)
        own = {name: session.host for name in names if name in seen and seen[name].machine is None}
        known = own | {name: seen[name].address or own.get(name, "") for name in names if name in seen}
        _write_lines(path, [known[name] for name in names if known.get(name)])
        waiting = [name for name in names if not known.get(name) and (name not in seen or seen[name].alive)]
        if not waiting or session.clock.monotonic() >= deadline:
            return tuple(name for name in names if not known.get(name))
        session.queue.wait(session.provider_of(pool).capabilities.look_every_s)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    """All of them or what stood there before."""
    temporary = path.with_name(f".{path.name}.kubeq")
    try:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BackendError(f"the addresses cannot be written to {path}: {error.strerror}") from error


def check_count(text: str) -> int:
    """A number of nodes. Raises UsageError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_NODES:
        raise UsageError(f"{text!r} is not a number of nodes", hint=f"write a whole number from 1 to {MOST_NODES}")
    return int(text)


def _of_pool(session: Session, pool: Pool) -> Sequence[NodeFacts]:
    observed = seen_of(session, pool.id)
    now = session.clock.now()
    rows = [still_running(session, node) for node in session.queue.peers(pool.id)]
    silent = session.provider_of(pool.id).silent(pool.id)
    facts = [_joined(node, observed.pop(node.name, None), silent.get(node.address or ""), now) for node in rows]
    return facts + [_unreported(session, pool, name, seen) for name, seen in observed.items()]


def still_running(session: Session, node: Node) -> Node:
    """The node without tasks that have ended since it reported itself last, up to a minute ago."""
    if not node.tasks or node.state is NodeState.GONE:
        return replace(node, tasks=())
    running = set[TaskId]()
    for id in node.tasks:
        with suppress(NotFound):
            task = session.queue.tasks_at(id.job, [id.index])[0]
            if task.state is TaskState.CLAIMED and task.current is not None and task.current.node == node.name:
                running.add(id)
    return replace(node, tasks=tuple(id for id in node.tasks if id in running))


def _joined(node: Node, seen: Observation | None, silent: str | None, now: float) -> NodeFacts:
    """What the node says, corrected by what the provider sees: a dead agent cannot report its own end.

    `silent` is why its machine does not answer: then it may be well for all that is known.
    """
    if node.state is NodeState.GONE:
        if stands_idle(node, seen, now):
            return NodeFacts(node=node, because="its machine is still up: kubeq nodes --orphans", orphaned=True)
        return NodeFacts(node=node, because=node.note)
    if (seen is not None and not seen.alive) or (seen is None and _was_never_to_speak(node)):
        gone, why = end_of(node, seen)
        ended_at = node.seen_at or node.requested_at
        return NodeFacts(node=replace(node, state=NodeState.GONE, gone=gone, ended_at=ended_at, tasks=()), because=why)
    if node.order is not None:
        return NodeFacts(node=replace(node, state=NodeState.DRAINING), because="asked to leave")
    if seen is None and silent is None and node.seen_at is not None and now - node.seen_at > SEEN_RECENTLY_S:
        return NodeFacts(node=replace(node, state=NodeState.GONE, gone=GoneReason.LOST, ended_at=node.seen_at))
    return NodeFacts(node=node, because=silent or node.note or (seen.reason if seen is not None else None))


def _was_never_to_speak(node: Node) -> bool:
    """Whether its machine, which was there, was ended by us before the agent had reported itself."""
    return node.state is NodeState.REQUESTED and node.order is NodeOrder.RELEASE


def _unreported(session: Session, pool: Pool, name: NodeName, seen: Observation) -> NodeFacts:
    """A node that the provider knows and that has never reported itself."""
    tail = name.rpartition("-")[2]
    node = Node(
        name=name,
        pool=pool.id,
        number=int(tail) if tail.isdigit() else 0,
        provider=pool.provider,
        state=NodeState.STARTING if seen.alive else NodeState.GONE,
        host="" if seen.machine is not None else session.host,
        pid=seen.pid,
        requested_at=seen.made_at or pool.created_at,
        ended_at=None if seen.alive else seen.made_at or pool.created_at,
        machine=seen.machine,
        gone=None if seen.alive else GoneReason.NEVER_STARTED,
    )
    return NodeFacts(node=node, because=seen.reason)
