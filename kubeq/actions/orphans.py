"""Machines of the user that nobody needs any more: found by asking the clouds what stands there, and ended.

None should ever be found: agents leave when there is no work, switch their machine off when their queue is out of
reach, and the cloud ends each at the end of its lifetime. Here is how to make sure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubeq.actions.fleet import BOOT_LIMIT_S, SILENT_S
from kubeq.actions.machines import owner_of
from kubeq.actions.session import Session
from kubeq.core.model import Node, NodeName, NodeState, Pool, PoolId
from kubeq.core.quantities import format_duration
from kubeq.errors import NotFound
from kubeq.nodes.base import NodeProvider, Owned


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A machine that stands, and why it should not. `foreign`: its pool is not known here."""

    owned: Owned
    why: str
    provider: NodeProvider
    foreign: bool = False


def find_orphans(session: Session) -> list[Orphan]:
    """Every machine of this user that nobody needs, in the regions of the configuration and of all pools; oldest first.

    Raises BackendError for a cloud that does not answer.
    """
    pools = {pool.id: pool for pool in session.queue.pools()}
    owner, needs = owner_of(session), _Needs(session, pools)
    found: dict[NodeName, Orphan] = {}
    for provider in _clouds(session, pools.values()):
        for owned in provider.owned():
            why = needs.why_not(owned) if owned.owner == owner else None
            if why is not None:
                foreign = owned.pool not in pools
                found[owned.name] = Orphan(owned=owned, why=why, provider=provider, foreign=foreign)
    return sorted(found.values(), key=lambda orphan: orphan.owned.made_at)


def stop_orphans(orphans: Sequence[Orphan]) -> None:
    """Have those machines end. Raises BackendError."""
    for provider in {id(orphan.provider): orphan.provider for orphan in orphans}.values():
        provider.terminate([orphan.owned.name for orphan in orphans if orphan.provider is provider])


def chosen(orphans: Sequence[Orphan], text: str) -> Sequence[Orphan]:
    """All of which this queue knows the pool, or the one of that name. Raises NotFound.

    What is tagged with this user's name may be at work for another queue, or for somebody else of that name.
    """
    if text == "all":
        return [orphan for orphan in orphans if not orphan.foreign]
    found = [orphan for orphan in orphans if orphan.owned.name == text]
    if not found:
        raise NotFound(f"there is no orphan {text!r}", hint="kubeq nodes --orphans lists them")
    return found


def _clouds(session: Session, pools: Iterable[Pool]) -> Iterator[NodeProvider]:
    """Each cloud and region once."""
    seen = set()
    if session.provider.capabilities.costs_money:
        seen.add((session.provider.name, session.region))
        yield session.provider
    for pool in pools:
        place = (pool.provider, pool.machines.region if pool.machines is not None else None)
        if pool.machines is not None and place not in seen:
            seen.add(place)
            session.adopt(pool)
            yield session.provider_of(pool.id)


class _Needs:
    """What the queue knows of the pools of machines; each is asked for once."""

    def __init__(self, session: Session, pools: Mapping[PoolId, Pool]) -> None:
        self._session = session
        self._pools = pools
        self._now = session.queue.now()
        self._rows: dict[PoolId, Mapping[NodeName, Node]] = {}
        self._idle_since: dict[PoolId, float | None] = {}

    def why_not(self, owned: Owned) -> str | None:
        """Why nobody needs the machine; None for one that somebody may need."""
        if owned.pool not in self._pools:
            return f"its pool {owned.pool} is not in this queue, maybe in another one"
        row = self._rows_of(owned.pool).get(owned.name)
        if row is not None and row.state is NodeState.GONE:
            left = self._now - (row.ended_at or owned.made_at)
            return f"its node left {format_duration(left)} ago" if left > SILENT_S else None
        age = self._now - owned.made_at
        if row is None or row.state is NodeState.REQUESTED:
            return f"it has never reported itself in {format_duration(age)}" if age > BOOT_LIMIT_S else None
        silent = self._now - (row.seen_at or row.requested_at)
        if silent > BOOT_LIMIT_S:
            return f"its node has said nothing for {format_duration(silent)}"
        return self._why_idle(owned, row)

    def _why_idle(self, owned: Owned, row: Node) -> str | None:
        since = self._idle(owned.pool)
        if since is None or row.tasks:
            return None
        idle = self._now - max(since, row.started_at or row.requested_at)
        linger = self._session.config.linger_s
        return f"its pool has had no work for {format_duration(idle)}" if idle > linger + SILENT_S else None

    def _rows_of(self, pool: PoolId) -> Mapping[NodeName, Node]:
        if pool not in self._rows:
            self._rows[pool] = {node.name: node for node in self._session.queue.peers(pool)}
        return self._rows[pool]

    def _idle(self, pool: PoolId) -> float | None:
        """Since when no job of the pool is open; None while one is."""
        if pool not in self._idle_since:
            queue = self._session.queue
            jobs = list(queue.jobs([entry for entry in queue.entries() if entry.pool == pool]))
            ends = [job.closed_at or job.submitted_at for job in jobs]
            self._idle_since[pool] = None if any(job.open for job in jobs) else max(ends, default=0.0)
        return self._idle_since[pool]
