"""Nodes for a job: which pool it belongs to, how many agents it needs now, and numbering the difference.

Repeating any step is harmless: node numbers are never given out twice and a name is launched once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kubeq.actions.backplane import check_store_of
from kubeq.actions.fleet import Fleet, fleet_of, record_overdue, stands_idle, withdrawn
from kubeq.actions.machines import identity_of, machines_of
from kubeq.actions.naming import node_name, private_pool_id, shared_pool_id
from kubeq.actions.relaying import revive_relay
from kubeq.actions.session import Session
from kubeq.actions.starting import AS_THE_POOL, Numbered, Say, Wish, nobody, start_numbered
from kubeq.core.model import GoneReason, Job, Node, NodeName, NodeOrder, NodeState, Pool, PoolId, Reach
from kubeq.machine import machine_id
from kubeq.nodes.base import Observation
from kubeq.nodes.boot import node_directory
from kubeq.nodes.open import HERE
from kubeq.queue.open import reach_of

SEEN_RECENTLY_S = 150.0
"""A node reports itself once a minute; after two missed reports it is not counted on."""
UNFIT = frozenset({GoneReason.SETUP, GoneReason.STRIKES})
"""Why a node leaves by itself although there may be work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """What is known of a pool's nodes now: those that work or come up, and those that the provider saw end.

    `unseen` have not been heard for a while, and no machine of the pool answers (`why` not): they may be well.
    """

    live: tuple[NodeName, ...] = ()
    draining: tuple[NodeName, ...] = ()
    dead: tuple[Observation, ...] = ()
    unseen: tuple[NodeName, ...] = ()
    why: str = ""
    retired: tuple[Node, ...] = ()
    """Those that left because they were found to be unfit."""
    orphaned: tuple[NodeName, ...] = ()
    """Those that left long ago while their machines did not."""


def pool_of_request(session: Session, *, private: bool) -> Pool:
    """The pool that a submission of this configuration belongs to; makes no request.

    Other people who share queue and store have pools of their own: nobody's tasks run on the machine of somebody else.
    """
    config = session.config
    stores = (session.store.url, session.inputs_store.url)
    outfit = None if session.dressing is None else session.dressing.digest
    now = session.clock.now()
    if private:
        return session.adopt(Pool(id=private_pool_id(), provider=HERE, private=True, created_at=now, outfit=outfit))
    provider = session.provider
    # Hosts may meet the nodes of several people who each have a queue of their own, under the same path.
    whose = machine_id() if provider.capabilities.relays and reach_of(config.queue_url) is Reach.HOST else ""
    dressed = () if outfit is None else (str(outfit),)
    machines = machines_of(session)
    what = (*session.hosts, *dressed, *identity_of(session, machines))
    return session.adopt(
        Pool(
            id=shared_pool_id(config.queue_url, *stores, provider.name, session.user, whose, *what),
            provider=provider.name,
            private=False,
            created_at=now,
            hosts=session.hosts,
            outfit=outfit,
            machines=machines,
        )
    )


def pool_of_job(session: Session, job: Job) -> Pool:
    """The job's recorded pool; if no node of it was ever numbered, as the job's row describes it.

    Raises NotFound for a job of another store than this configuration's: nodes from here could not read its inputs.
    """
    check_store_of(job, session.store)
    standing = session.queue.pool(job.pool)
    if standing is not None:
        session.follow(standing)
        return standing
    shared = pool_of_request(session, private=False)
    return Pool(
        id=job.pool,
        provider=shared.provider if job.pool == shared.id else HERE,
        hosts=shared.hosts if job.pool == shared.id else (),
        private=job.pool != shared.id,
        created_at=session.clock.now(),
        outfit=shared.outfit if job.pool == shared.id else None,
        machines=shared.machines if job.pool == shared.id else None,
    )


def seen_of(session: Session, pool: PoolId) -> dict[NodeName, Observation]:
    """What providers see of the pool's nodes now: its own, and this machine. A relay that crashed is started again."""
    revive_relay(session)
    return {name: seen for provider in session.providers_of(pool) for name, seen in provider.observe(pool).items()}


def observe_pool(session: Session, pool: PoolId) -> Nodes:
    """The pool's nodes as the provider sees them, and those that others started, as they last reported themselves."""
    observed = seen_of(session, pool)
    rows = {node.name: node for node in session.queue.peers(pool)}
    now = session.clock.now()
    live = [name for name, seen in observed.items() if seen.alive]
    live += [name for name, node in rows.items() if name not in observed and _reports(node, now)]
    leaving = {name for name in live if name in rows and _is_leaving(rows[name])}
    quiet = [node for name, node in rows.items() if name not in observed and name not in live]
    unseen, why = _unseen(session, pool, quiet)
    return Nodes(
        live=tuple(name for name in live if name not in leaving),
        draining=tuple(sorted(leaving)),
        dead=tuple(seen for seen in observed.values() if not seen.alive),
        unseen=unseen,
        why=why,
        retired=tuple(node for node in rows.values() if node.gone in UNFIT),
        orphaned=tuple(name for name, node in rows.items() if stands_idle(node, observed.get(name), now)),
    )


def _unseen(session: Session, pool: PoolId, quiet: Iterable[Node]) -> tuple[tuple[NodeName, ...], str]:
    """Which of the nodes that nobody hears may be well, and why nobody knows; none where other machines do answer."""
    silent = session.provider_of(pool).silent(pool)
    standing = session.queue.pool(pool) if silent else None
    if standing is not None and session.follow(standing):
        session.provider_of(pool).observe(pool)
        silent = session.provider_of(pool).silent(pool)
    if standing is None or len(silent) < len(standing.hosts):
        return (), ""
    told = {node.name: silent.get(node.address or "") for node in quiet if not _is_leaving(node)}
    reasons = {name: why for name, why in told.items() if why is not None}
    return tuple(reasons), next(iter(reasons.values()), "")


def nodes_for(session: Session, pool: Pool, tasks: int, job: Job | None = None) -> int:
    """How many nodes a job with so many tasks left gets: as its user said, else as its provider has it."""
    said = (job.nodes if job is not None else None) or session.config.nodes
    usual = session.hosts_of(pool.id) or session.provider_of(pool.id)
    return max(1, min(said or usual.usual(tasks), tasks))


def ensure_nodes(
    session: Session, pool: Pool, wanted: int = 1, say: Say = nobody, job: Job | None = None
) -> tuple[NodeName, ...]:
    """Start what is missing to `wanted` live nodes; the names of those that were started.

    Hosts that can never run the tasks of `job` are left out, and so are nodes that it is not to have any more. `say` is
    told of each node that could not be started. Raises BackendError if none is there at the end.
    """
    numbered = number_missing(session, pool, wanted, job)
    return start_numbered(session, pool, _still_wanted(session, pool, numbered, wanted), say)


def add_nodes(
    session: Session, pool: Pool, count: int, say: Say = nobody, job: Job | None = None, wish: Wish = AS_THE_POOL
) -> tuple[NodeName, ...]:
    """Start `count` more nodes of the pool, whatever is there; as `ensure_nodes`, but one of these must come up."""
    if pool.machines is None:
        numbered = Numbered(numbers=number_nodes(session, pool, count), needed=True, job=job)
        return start_numbered(session, pool, numbered, say, wish)
    while True:
        fleet = fleet_now(session, pool)
        if numbers := _next_numbers(session, pool, count, fleet):
            numbered = Numbered(numbers=numbers, needed=True, fleet=fleet, job=job)
            return start_numbered(session, pool, numbered, say, wish)


def number_missing(
    session: Session, pool: Pool, wanted: int, job: Job | None = None, most: int | None = None
) -> Numbered:
    """Numbers for what is missing to `wanted` nodes that live or are on their way; none if nothing is. At most
    `most` of them.

    Several clients may look at late lists of a cloud at the same time: one of them gets the numbers.
    """
    if pool.machines is None:
        live = observe_pool(session, pool.id).live
        missing = max(0, wanted - len(live))
        allowed = missing if most is None else min(missing, most)
        numbers: Sequence[int] = number_nodes(session, pool, allowed) if allowed else ()
        return Numbered(numbers=numbers, needed=not live, job=job, beyond=missing - allowed)
    while True:
        fleet = fleet_now(session, pool)
        there = len(fleet.live) + len(fleet.coming)
        missing = max(0, wanted - there)
        allowed = missing if most is None else min(missing, most)
        numbers = _next_numbers(session, pool, allowed, fleet) if allowed else ()
        if numbers or not allowed:
            beyond = missing - allowed
            return Numbered(numbers=numbers, needed=not there, fleet=fleet, job=job, beyond=beyond)


def _still_wanted(session: Session, pool: Pool, numbered: Numbered, wanted: int) -> Numbered:
    """The same without those numbers that the job is not to have any more; what they stood for is on record as ended.

    The job was read before machines were looked at, which takes seconds. Whoever lowers its number changes the row
    first and withdraws what was numbered afterwards: so a number is seen there, or the new row is seen here.
    """
    if numbered.job is None or not numbered.numbers:
        return numbered
    job = session.queue.refresh(numbered.job)
    surplus = 0 if job.nodes is None else min(len(numbered.numbers), max(0, wanted - job.nodes))
    kept = len(numbered.numbers) - surplus
    why, now = f"job {job.id} is to have {job.nodes} now", session.queue.now()
    for number in numbered.numbers[kept:] if pool.machines is not None else ():
        session.queue.withdraw(withdrawn(pool, node_name(pool.id, number), why, now))
    return replace(numbered, numbers=numbered.numbers[:kept])


def fleet_now(session: Session, pool: Pool) -> Fleet:
    """The machines of the pool now. Nothing stays of those that have ended or will never report themselves."""
    observed = seen_of(session, pool.id)
    fleet = fleet_of(session, pool, observed)
    if fleet.overdue or fleet.fallen:
        session.provider_of(pool.id).terminate([*fleet.overdue, *fleet.fallen])
    known = {node.name for node in fleet.ended}
    given_up = [observed[name] for name in fleet.overdue if name in observed and name not in known]
    return replace(fleet, ended=(*fleet.ended, *record_overdue(session, pool, given_up))) if given_up else fleet


def _next_numbers(session: Session, pool: Pool, count: int, fleet: Fleet) -> Sequence[int]:
    """Numbers for so many machines, that whoever looks counts as on their way; none if others have come meanwhile."""
    store_outfit(session, pool)
    at = session.queue.now()
    return session.queue.number_next(pool, count, standing=fleet.numbered, first=fleet.numbered_from, at=at)


def store_outfit(session: Session, pool: Pool) -> None:
    """Have stored what the pool asks of its nodes before there is any, whoever made the pool and was interrupted."""
    dressing = session.dressing if pool.outfit is not None else None
    if dressing is not None and dressing.digest == pool.outfit:
        standing = None if session.queue.make_pool(pool) else session.queue.pool(pool.id)
        if standing is None or not standing.nodes:
            opens = dressing.opens()
            session.blobs.upload({digest: opens[digest] for digest in session.blobs.missing(list(opens))})


def number_nodes(session: Session, pool: Pool, count: int) -> list[int]:
    """Numbers for so many new nodes; what they are to do around their attempts is stored."""
    store_outfit(session, pool)
    return session.queue.number_nodes(pool, count)


def log_of(session: Session, node: NodeName) -> Path:
    """Where a node of this machine prints what its log cannot hold."""
    return node_directory(session.config.state_dir, node) / "agent.out"


def rows_of(session: Session, pool: PoolId) -> Mapping[NodeName, Node]:
    """The pool's node rows by name."""
    return {node.name: node for node in session.queue.peers(pool)}


def stopped_by_user(nodes: Iterable[Node]) -> bool:
    """Whether the newest node was told to leave by a user, who does not want another one then.

    Those that left because their pool was to be smaller say nothing: as many are wanted as the job is to have.
    """
    others = (node for node in nodes if node.order is not NodeOrder.SHRINK)
    newest = max(others, key=lambda node: node.number, default=None)
    return newest is not None and newest.order is not None


def _reports(node: Node, now: float) -> bool:
    return node.state is not NodeState.GONE and node.seen_at is not None and now - node.seen_at < SEEN_RECENTLY_S


def _is_leaving(node: Node) -> bool:
    return node.order is not None or node.state in (NodeState.DRAINING, NodeState.GONE)
