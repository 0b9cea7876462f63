"""The machines of a pool as they are counted: which are there, which are on their way, which have ended, and why.

A cloud forgets machines, and its lists are late. So each end that is seen is written into the node's row, once, by
whoever sees it first: what was preempted and what never worked is counted from rows, whichever client looks. A number
that was given out moments ago and that nobody has seen yet stands for a machine on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from kubeq.actions.naming import node_name
from kubeq.actions.session import Session
from kubeq.core.model import GoneReason, Node, NodeName, NodeOrder, NodeState, Pool
from kubeq.core.quantities import format_duration
from kubeq.errors import BackendError, KubeqError
from kubeq.nodes.base import Launched, Observation, Refused

UNSEEN_S = 120.0
"""How long a machine may be missing in a cloud's lists after it was asked for; late by seconds, seldom by more."""
EACH_S = 4.0
"""So much longer for each of a launch of many: eight are asked for side by side, and each is waited for up to 30 s."""
BOOT_LIMIT_S = 900.0
"""A machine that has not reported itself after so long never will: a slow one takes a few minutes."""
SILENT_S = 300.0
"""A node that is on no list and has said nothing for so long is gone: agents report themselves once a minute."""
WITHOUT_FAULT = frozenset({GoneReason.IDLE, GoneReason.DRAINED, GoneReason.TERMINATED, GoneReason.PREEMPTED})
"""Ends that say nothing against a machine that did no work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The machines of a pool now.

    `live` work or boot, `coming` were asked for and are not seen yet, `leaving` were told to or do so by themselves,
    `overdue` are up and have never reported themselves, or have left long ago. `ended` are the rows of those that are
    gone, the oldest end first; `fallen` those of which that was seen just now: they may lie there, switched off, with
    their disks. `numbered` is how many numbers were given out, from `numbered_from` on without anybody having written
    down what came of it.
    """

    live: tuple[NodeName, ...]
    coming: tuple[NodeName, ...]
    leaving: tuple[NodeName, ...]
    overdue: tuple[NodeName, ...]
    ended: tuple[Node, ...]
    fallen: tuple[NodeName, ...]
    rows: Mapping[NodeName, Node]
    numbered: int
    numbered_from: int

    @property
    def preempted(self) -> int:
        """How many of the pool's machines the cloud has taken back."""
        return sum(node.gone is GoneReason.PREEMPTED for node in self.ended)

    @property
    def working(self) -> bool:
        """Whether one of those that are there has ever worked."""
        return any(name in self.rows and self.rows[name].worked for name in self.live)

    def barren(self, since: float) -> tuple[Node, ...]:
        """Those that have ended in a row, up to now, without ever working, by no fault but their own; not those that
        could not be had at all, which cost nothing.
        """
        found: list[Node] = []
        for node in reversed(self.ended):
            if node.gone is GoneReason.NEVER_STARTED and node.machine is None:
                continue
            if (node.ended_at or 0.0) < since or node.worked or node.gone in WITHOUT_FAULT:
                break
            found.append(node)
        return tuple(found)


def fleet_of(session: Session, pool: Pool, observed: Mapping[NodeName, Observation]) -> Fleet:
    """The pool's machines, of which the providers see that. Writes down each end that nobody has written down."""
    queue = session.queue
    now, standing = queue.now(), queue.pool(pool.id) or pool
    rows = {node.name: node for node in queue.peers(pool.id)}
    launching = _launching(standing, rows, now)
    fallen = []
    for name, end in _ends(standing, rows, observed, now).items():
        if name in rows or (name not in launching and _number(name) >= standing.numbered_from):
            rows[name] = queue.record_end(end)  # of others the row is about to be written, or was forgotten
            fallen.append(name)
    there = [name for name, seen in observed.items() if seen.alive]
    there += [name for name, node in rows.items() if name not in observed and _may_live(pool, node, now)]
    overdue = [name for name in there if _is_overdue(rows.get(name), observed.get(name), now)]
    leaving = [name for name in there if name in rows and _is_leaving(rows[name])]
    return Fleet(
        live=tuple(name for name in there if name not in leaving and name not in overdue),
        coming=tuple(name for name in launching if name not in there),
        leaving=tuple(leaving),
        overdue=tuple(overdue),
        ended=tuple(
            sorted(
                (node for node in rows.values() if node.state is NodeState.GONE),
                key=lambda node: (node.ended_at or 0.0, node.number),
            )
        ),
        fallen=tuple(name for name in fallen if name in observed and observed[name].machine is not None),
        rows=rows,
        numbered=standing.nodes,
        numbered_from=min((_number(name) for name in launching), default=standing.nodes + 1),
    )


def asked_for(pool: Pool, launched: Launched, now: float) -> Node:
    """The row of a machine that is coming up."""
    return Node(
        name=launched.name,
        pool=pool.id,
        number=_number(launched.name),
        provider=pool.provider,
        state=NodeState.REQUESTED,
        host="",
        requested_at=now,
        machine=launched.machine,
    )


def never_started(pool: Pool, name: NodeName, why: str | None, now: float, seen: Observation | None = None) -> Node:
    """The row of a machine that never became a node."""
    preempted = seen is not None and seen.preempted
    return Node(
        name=name,
        pool=pool.id,
        number=_number(name),
        provider=pool.provider,
        state=NodeState.GONE,
        host="",
        requested_at=(seen.made_at if seen is not None else None) or now,
        ended_at=now,
        gone=GoneReason.PREEMPTED if preempted else GoneReason.NEVER_STARTED,
        note=why,
        machine=seen.machine if seen is not None else None,
    )


def withdrawn(pool: Pool, name: NodeName, why: str, now: float) -> Node:
    """The row of a node that is not wanted any more before it has begun."""
    row = never_started(pool, name, why, now)
    return replace(row, gone=GoneReason.TERMINATED, order=NodeOrder.SHRINK)


def record_launch(session: Session, pool: Pool, answers: Iterable[Launched | Refused]) -> Sequence[NodeName]:
    """Have it on record what was asked for and what came of it; the machines that somebody has given up meanwhile."""
    now, coming = session.queue.now(), []
    for answer in answers:
        if isinstance(answer, Launched):
            coming.append(asked_for(pool, answer, now))
        else:
            session.queue.record_end(never_started(pool, answer.name, answer.reason, now))
    return session.queue.record_requested(coming)


@contextmanager
def failure_on_record(session: Session, pool: Pool, names: Iterable[NodeName]) -> Iterator[None]:
    """Have it on record if a launch could not even be tried: else its machines would be taken for ones on their way."""
    try:
        yield
    except KubeqError as error:
        now = session.queue.now()
        with suppress(BackendError):  # then it is known when their time is over
            for name in names if pool.machines is not None else ():
                session.queue.record_end(never_started(pool, name, error.message, now))
        raise


def record_overdue(session: Session, pool: Pool, seen: Sequence[Observation]) -> list[Node]:
    """Have it on record that those machines never reported themselves; their rows."""
    why = f"it did not report itself in {format_duration(BOOT_LIMIT_S)}"
    rows, now = {node.name: node for node in session.queue.peers(pool.id)}, session.queue.now()
    return [
        session.queue.record_end(
            never_started(pool, each.name, why, now, each)
            if (row := rows.get(each.name)) is None
            else _gone(row, GoneReason.NEVER_STARTED, why, now, each)
        )
        for each in seen
    ]


def _launching(pool: Pool, rows: Mapping[NodeName, Node], now: float) -> list[NodeName]:
    """The nodes whose numbers were given out lately and of which nobody has written down what came of it."""
    numbers = range(pool.numbered_from, pool.nodes + 1)
    names = [name for name in (node_name(pool.id, number) for number in numbers) if name not in rows]
    age = None if pool.numbered_at is None else now - pool.numbered_at
    return names if age is not None and age < UNSEEN_S + EACH_S * len(names) else []


def _ends(
    pool: Pool, rows: Mapping[NodeName, Node], observed: Mapping[NodeName, Observation], now: float
) -> dict[NodeName, Node]:
    """The rows of nodes that have ended and do not say so."""
    found = {}
    for name, seen in observed.items():
        row = rows.get(name)
        if seen.alive or (row is not None and row.state is NodeState.GONE):
            continue
        if row is None:
            found[name] = never_started(pool, name, seen.reason, now, seen)
        else:
            gone, why = end_of(row, seen)
            found[name] = _gone(row, gone, row.note or why, now, seen)
    for name, row in rows.items():
        patience = UNSEEN_S if row.state is NodeState.REQUESTED else SILENT_S
        silent = now - (row.seen_at or row.requested_at) > patience
        if row.provider == pool.provider and row.state is not NodeState.GONE and name not in observed and silent:
            gone, why = end_of(row, None)
            never = row.state is NodeState.REQUESTED
            usual = f"it {'never came' if never else 'is not there any more'}"
            found[name] = _gone(row, gone, row.note or why or usual, now)
    return found


def end_of(row: Node, seen: Observation | None) -> tuple[GoneReason, str | None]:
    """How a node has ended that has not said so itself, and why as far as its provider or we know."""
    reason = None if seen is None else seen.reason
    if seen is not None and seen.preempted:
        return GoneReason.PREEMPTED, reason
    if row.state is not NodeState.REQUESTED:
        return GoneReason.LOST, reason
    if row.order is not None:
        return GoneReason.TERMINATED, "it was told to leave before its agent spoke"
    return GoneReason.NEVER_STARTED, reason


def _gone(row: Node, gone: GoneReason, note: str | None, now: float, seen: Observation | None = None) -> Node:
    machine = row.machine or (seen.machine if seen is not None else None)
    return replace(row, state=NodeState.GONE, gone=gone, note=note, ended_at=now, tasks=(), machine=machine)


def _may_live(pool: Pool, node: Node, now: float) -> bool:
    """Whether a node that no provider sees is counted on: a machine as long as it is not known to be gone, one of the
    user's own hosts as long as it speaks.
    """
    heard = now - (node.seen_at or node.requested_at) <= SILENT_S
    return node.state is not NodeState.GONE and (node.provider == pool.provider or heard)


def _is_overdue(row: Node | None, seen: Observation | None, now: float) -> bool:
    """Whether a machine stands there that will not work: its agent never spoke, or said that it left.

    One that is silent is not meant: what runs there goes on while the queue is out of its reach.
    """
    if row is not None and row.state is NodeState.GONE:
        stands = seen is not None and seen.machine is not None
        return stands and row.gone is not GoneReason.LOST and now - (row.ended_at or now) > BOOT_LIMIT_S
    if row is not None and row.state is not NodeState.REQUESTED:
        return False
    made_at = (seen.made_at if seen is not None else None) or (row.requested_at if row is not None else None)
    return made_at is not None and now - made_at > BOOT_LIMIT_S


def stands_idle(row: Node, seen: Observation | None, now: float) -> bool:
    """Whether the node's machine is still up, and costs money, although the node left long ago."""
    up = row.state is NodeState.GONE and seen is not None and seen.alive and seen.machine is not None
    return up and now - (row.ended_at or now) > SILENT_S


def _number(name: NodeName) -> int:
    return int(name.rpartition("-")[2])


def _is_leaving(node: Node) -> bool:
    return node.order is not None or node.state in (NodeState.DRAINING, NodeState.GONE)
