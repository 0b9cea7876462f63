"""The relay of this user's state folder: nodes that come through it, and having it run while anybody needs it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubeq.actions.backplane import reach_of
from kubeq.actions.session import Session
from kubeq.core.model import Job, NodeName, Pool, PoolId, Reach
from kubeq.errors import BackendError
from kubeq.nodes.base import Relaying
from kubeq.relay.admissions import Admission, Backplane, Guest
from kubeq.relay.home import RelayHome
from kubeq.relay.starting import begin_relay, ensure_relay, last_begun_at

log = logging.getLogger(__name__)
AGAIN_S = 10.0
"""Between two tries to start a relay that does not stay up."""
RELAYED_POLL_S = 2.0
"""How long an idle node behind a relay lets it keep a question; a change of the queue is told at once."""
SILENT_S = 15.0
"""A relay tells every two seconds whom it has heard; one that has not for so long is stopped, or hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFacts:
    """The relay as it stands. `silent_since`: it has told nothing since then. `heard_at`: its guests, None for one that
    has not come since the relay started.
    """

    pid: int | None
    started_at: float | None
    silent_since: float | None
    heard_at: Mapping[NodeName, float | None]


def relaying(session: Session, pool: Pool) -> Relaying:
    """How nodes of the pool take part in queue and stores of this machine; the relay is started with the first."""
    state_dir = session.config.state_dir
    home = RelayHome(state_dir)

    def admit(node: NodeName, number: int, place: str) -> str:
        guest = Guest(
            node=node,
            pool=pool.id,
            number=number,
            provider=pool.provider,
            place=place,
            backplane=_backplane(session),
        )
        token = home.admissions.admit(guest, now=session.clock.now())
        ensure_relay(state_dir)
        return token.text

    return Relaying(socket=home.socket, admit=admit)


def needs_relay(session: Session) -> bool:
    """Whether anything that nodes need can be seen from this machine only."""
    return reach_of(session.config) is Reach.HOST


def revive_relay(session: Session) -> None:
    """Start the relay again if it crashed while a job waits for its nodes. Waits for nothing; may be called often."""
    state_dir = session.config.state_dir
    home = RelayHome(state_dir)
    if not home.folder.is_dir() or home.record() is not None:
        return
    if session.clock.now() - last_begun_at(state_dir) < AGAIN_S:
        return
    try:
        if any(session.queue.has_open_jobs(pool) for pool in {each.guest.pool for each in _guests(session)}):
            begin_relay(state_dir)
    except BackendError as error:
        log.warning("the relay could not be started again: %s", error.message)


def relay_facts(session: Session) -> RelayFacts | None:
    """What is known of the relay; None if there is neither one nor a node that might need it."""
    home = RelayHome(session.config.state_dir)
    if not home.folder.is_dir():
        return None
    record, sight = home.record(), home.sight()
    guests = [admission.guest.node for admission in _guests(session)]
    if record is None:
        nobody = RelayFacts(pid=None, started_at=None, silent_since=None, heard_at=dict.fromkeys(guests))
        return nobody if guests else None
    heard = {} if sight is None or sight.at < record.started_at else sight.heard_at
    told_at = max(record.started_at, sight.at if sight is not None else 0.0)
    return RelayFacts(
        pid=record.mark.pid,
        started_at=record.started_at,
        silent_since=told_at if session.clock.now() - told_at > SILENT_S else None,
        heard_at={node: heard.get(node) for node in guests},
    )


def let_go_pool(session: Session, pool: PoolId) -> None:
    """Have the relay forget the nodes of a pool that is no more: their tokens are worth nothing.

    Raises BackendError.
    """
    home = RelayHome(session.config.state_dir)
    for admission in home.admissions.every():
        if admission.guest.pool == pool:
            home.forget(admission.guest.node)


def let_go_nodes(session: Session, nodes: Iterable[NodeName]) -> None:
    """Have the relay forget nodes that have been gone for long. Raises BackendError."""
    home = RelayHome(session.config.state_dir)
    for node in nodes:
        home.forget(node)


def sweep(session: Session, job: Job) -> None:
    """End expired leases of a killed or paused job.

    Not those of a paused job whose pool has nodes behind the relay: only the relay knows whether it has been up for a
    whole term, and with the next claim of such a node it ends them.
    """
    if job.paused and not job.cancelled and any(each.guest.pool == job.pool for each in _guests(session)):
        return
    session.queue.sweep(job)


def _guests(session: Session) -> list[Admission]:
    """The nodes that may come to this queue through the relay."""
    every = RelayHome(session.config.state_dir).admissions.every()
    mine = session.config.queue_url
    return [each for each in every if each.revoked_at is None and each.guest.backplane.queue_url == mine]


def _backplane(session: Session) -> Backplane:
    return Backplane(
        queue_url=session.config.queue_url, store_url=session.store.url, blobs_url=session.inputs_store.url
    )
