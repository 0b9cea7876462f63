"""Whether anybody still needs the relay, and letting go of nodes that have gone."""

from __future__ import annotations

import logging

from kubeq.core.clock import Clock
from kubeq.core.model import NodeState
from kubeq.errors import BackendError, UsageError
from kubeq.queue.base import Key, RecordTable
from kubeq.queue.rows import jobs_of, node_of, nodes_of
from kubeq.relay.admissions import Admission
from kubeq.relay.home import RelayHome
from kubeq.relay.service import Relay

log = logging.getLogger(__name__)
COMING_S = 900.0
"""So long a node that was just admitted is expected, and one that was just heard is taken to live."""
WAITED_FOR_S = 36 * 3600.0
"""So long a silent node is waited for while its pool has a job; by itself it gives up after 24 hours."""
KEPT_S = 7 * 86400.0
"""So long it is remembered where a node was that has been let go: its successor tells what it left."""


class Upkeep:
    """Looks after the admissions of a running relay."""

    def __init__(self, relay: Relay, home: RelayHome, clock: Clock) -> None:
        self._relay = relay
        self._home = home
        self._admissions = home.admissions
        self._clock = clock
        self._since = clock.monotonic()

    def is_needed(self) -> bool:
        """Whether some node may still come or some job still wait for one. Nodes that say they are gone are let go."""
        heard, now = self._relay.heard(), self._clock.now()
        up = self._clock.monotonic() - self._since
        needed = False
        for admission in self._admissions.every():
            if admission.revoked_at is not None:
                if now - admission.revoked_at > KEPT_S:
                    self._home.forget(admission.guest.node)
                continue
            silent = min(heard.get(admission.guest.node, up), max(0.0, now - admission.admitted_at))
            needed = self._needs(admission, silent) or needed
        return needed

    def _needs(self, admission: Admission, silent: float) -> bool:
        guest = admission.guest
        try:
            table = self._relay.table_of(guest.backplane)
            row = table.get([Key(nodes_of(guest.pool), guest.node)])[0]
            if row is not None and node_of(row).state is NodeState.GONE:
                self._admissions.revoke(guest.node, now=self._clock.now())
                return False
            return silent < COMING_S or (silent < WAITED_FOR_S and _has_open_job(table, admission))
        except (BackendError, UsageError) as error:
            log.warning("it is not known whether node %s is needed: %s", guest.node, error)
            return silent < COMING_S


def _has_open_job(table: RecordTable, admission: Admission) -> bool:
    return bool(table.due(jobs_of(admission.guest.pool), float("inf"), None, 1).rows)
