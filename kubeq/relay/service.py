"""What a relay serves: each guest its claims and its objects, over the queue and the stores that it was admitted to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from kubeq.core.clock import Clock
from kubeq.core.model import Node, NodeName, NodeState, PoolId
from kubeq.queue.base import RecordTable
from kubeq.queue.open import open_table
from kubeq.relay.admissions import Admissions, Backplane, Guest
from kubeq.relay.changes import Changes
from kubeq.relay.claims import GuestClaims
from kubeq.relay.holdings import Holdings
from kubeq.relay.objects import GuestStore
from kubeq.relay.reachable import Reachable
from kubeq.relay.uptime import Uptime
from kubeq.relay_wire import Token
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import Blobs
from kubeq.store.open import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A backplane in use: what all its guests share."""

    table: RecordTable
    store: ObjectStore
    blobs: ObjectStore
    reachable: Reachable
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where one guest is served."""

    guest: Guest
    claims: GuestClaims
    objects: GuestStore
    changes: Changes
    uptime: Uptime


class Relay:
    """The desks of all guests, each made when its guest first comes. Safe to use from several threads."""

    def __init__(
        self,
        admissions: Admissions,
        clock: Clock,
        *,
        table: Callable[[str], RecordTable] = open_table,
        store: Callable[[str], ObjectStore] = open_store,
    ) -> None:
        self._admissions = admissions
        self._clock = clock
        self._open_table = table
        self._open_store = store
        self._lock = threading.Lock()
        self._opened: dict[Backplane, Opened] = {}
        self._uptimes: dict[PoolId, Uptime] = {}
        self._desks: dict[NodeName, Desk] = {}
        self._heard: dict[NodeName, float] = {}

    def desk(self, token: Token) -> Desk:
        """The desk of the guest whose token that is; the guest is there now. Raises AccessDenied, BackendError."""
        guest = self._admissions.check(token)
        with self._lock:
            desk = self._desks.get(guest.node)
            if desk is None or desk.guest != guest:
                desk = self._desks[guest.node] = self._new_desk(guest)
            self._heard[guest.node] = self._clock.monotonic()
        desk.uptime.touch()
        return desk

    def heard(self) -> dict[NodeName, float]:
        """How many seconds ago each guest that has come was heard last."""
        now = self._clock.monotonic()
        with self._lock:
            return {node: now - at for node, at in self._heard.items()}

    def report(self, desk: Desk, node: Node) -> Node:
        """As `Claims.report`. A node that says it has gone is let go."""
        written = desk.claims.report(node)
        if node.state is NodeState.GONE:
            self._admissions.revoke(desk.guest.node, now=self._clock.now())
        return written

    def neighbours(self, guest: Guest) -> frozenset[NodeName]:
        """The nodes of the guest's pool that are, or were, at the same place; the guest among them."""
        every = (admission.guest for admission in self._admissions.every())
        return frozenset(each.node for each in every if (each.pool, each.place) == (guest.pool, guest.place))

    def table_of(self, backplane: Backplane) -> RecordTable:
        """The queue behind a backplane, for whoever looks after the relay itself. Raises UsageError."""
        with self._lock:
            return self._open(backplane).table

    def _new_desk(self, guest: Guest) -> Desk:
        opened = self._open(guest.backplane)
        uptime = self._uptimes.setdefault(guest.pool, Uptime(self._clock))
        holdings = Holdings(opened.table, guest)
        return Desk(
            guest=guest,
            claims=GuestClaims(opened.table, self._clock, uptime, guest, holdings),
            objects=GuestStore(opened.store, opened.blobs, opened.reachable, guest, holdings),
            changes=opened.changes,
            uptime=uptime,
        )

    def _open(self, backplane: Backplane) -> Opened:
        opened = self._opened.get(backplane)
        if opened is None:
            table, store = self._open_table(backplane.queue_url), self._open_store(backplane.store_url)
            shared = backplane.blobs_url == backplane.store_url
            blobs = store if shared else self._open_store(backplane.blobs_url)
            reachable = Reachable(Blobs(blobs))
            opened = Opened(table=table, store=store, blobs=blobs, reachable=reachable, changes=Changes(table))
            self._opened[backplane] = opened
        return opened
