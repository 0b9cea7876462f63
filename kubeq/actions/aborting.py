"""The end of waiting by force: the job paused, its nodes asked to give back what they run and to leave."""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.actions.launching import observe_pool, rows_of
from kubeq.actions.session import Session
from kubeq.core.model import Job, NodeName, NodeOrder, PoolId, Reach

LEAVING_S = 20.0
"""How long to wait for agents to stop what runs (10 s between TERM and KILL) and to report that they left."""
MACHINES_LEAVING_S = 120.0
"""The same for machines of a cloud, which are looked at seldom, and shut down after their agents."""
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Nodes that were asked to leave, and those of them that are still there."""

    asked: tuple[NodeName, ...] = ()
    left_over: tuple[NodeName, ...] = ()


def abort(session: Session, job: Job) -> Stopped:
    """The job paused and its nodes stopped; nodes that another open job needs are left alone. Safe to repeat."""
    session.queue.pause(job)
    return Stopped() if others_need(session, job) else stop_nodes(session, job.pool)


def others_need(session: Session, job: Job) -> bool:
    """Whether another open job shares the pool."""
    others = [entry for entry in session.queue.entries() if entry.pool == job.pool and entry.id != job.id]
    return any(other.open and not other.paused and not other.cancelled for other in session.queue.jobs(others))


def stop_nodes(session: Session, pool: PoolId, names: tuple[NodeName, ...] | None = None) -> Stopped:
    """The live nodes of the pool, or those named, told to give back what they run and leave; waits for their end."""
    nodes = observe_pool(session, pool)
    asked = tuple(name for name in (*nodes.live, *nodes.draining) if names is None or name in names)
    rows = rows_of(session, pool)
    for name in asked:
        if name in rows:
            session.queue.order(rows[name], NodeOrder.RELEASE)
    for provider in session.providers_of(pool):
        provider.terminate(asked)
    nature = session.provider_of(pool).capabilities
    pause_s = _LOOK_S if nature.reach is Reach.HOST else nature.look_every_s
    deadline = session.clock.monotonic() + (MACHINES_LEAVING_S if nature.costs_money else LEAVING_S)
    left_over = asked
    while left_over and session.clock.monotonic() < deadline:
        session.queue.wait(pause_s)
        seen = observe_pool(session, pool)
        left_over = tuple(name for name in asked if name in seen.live or name in seen.draining)
    return Stopped(asked=asked, left_over=left_over)
