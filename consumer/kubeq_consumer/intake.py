"""What an agent takes on: it asks the queue when there may be work and there is room, seldom while that goes wrong.

What becomes of what it was given is the agent's and the attempts' own.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from kubeq.core.resources import Resources, fits
from kubeq.errors import BackendError
from kubeq.queue.claims import Claimed, Claims
from kubeq_consumer.attempt import Attempt
from kubeq_consumer.ledger import Ledger
from kubeq_consumer.neighbours import Neighbours
from kubeq_consumer.preparing import Node
from kubeq_consumer.silence import Silence
from kubeq_consumer.slots import own_share, room_for

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 30.0


class Intake:
    """Claims for one node, within the machine's ledger and `total`, the most that this agent may give to attempts."""

    def __init__(self, node: Node, claims: Claims, ledger: Ledger, total: Resources, neighbours: Neighbours) -> None:
        self._node = node
        self._claims = claims
        self._ledger = ledger
        self._total = total
        self._neighbours = neighbours
        self._short = False
        self._pause = 0.0
        self._again_at = 0.0
        self.silence = Silence(node.clock, node.config.lost_after_s)
        self.hungry = True
        """Whether something has happened since the queue was asked last that makes it worth asking again."""
        self.note: str | None = None
        """What there is to say of it in the node's row, until an attempt has run here again."""

    def is_due(self) -> bool:
        """Whether to ask the queue now. What made it worth asking is used up by that."""
        hungry, self.hungry = self.hungry, False
        return hungry and self._node.clock.monotonic() >= self._again_at

    def ask(self, attempts: Sequence[Attempt]) -> Claimed | None:
        """What the queue gives a node that has these attempts; None if it could not be asked, and is left alone."""
        config = self._node.config
        try:
            free = own_share(attempts, self._total, self._ledger.free())
            room = room_for(attempts, free, self._total, self._neighbours.count, ahead=self._short)
            claimed = self._claims.claim(config.pool, config.node, room)
        except BackendError as error:
            self.silence.go_on(error)
            self.back_off(f"nothing can be claimed: {error.message}")
            return None
        self.silence.end()
        if claimed.too_big:
            self.note = f"task {claimed.too_big[0]} asks for more than this node has ({self._total})"
        return claimed

    def reserve(self, attempt: Attempt, attempts: Sequence[Attempt]) -> bool:
        """Whether it may start now beside these: within this agent's own limit and what the machine has left."""
        need = attempt.grant.need
        if not fits(need, own_share(attempts, self._total, self._total)):
            return False
        try:
            return self._ledger.reserve(attempt.label, need)
        except BackendError as error:
            self.back_off(error.message)
            return False

    def give_back(self, attempt: Attempt) -> None:
        """What was reserved for it is free again."""
        try:
            self._ledger.release(attempt.label)
        except BackendError as error:
            log.warning("%s; the next write of this agent gives it back", error)

    def back_off(self, why: str) -> None:
        """Claim nothing for a while, longer each time; what runs goes on."""
        self._pause = min(max(0.5, 2 * self._pause), LONGEST_PAUSE_S)
        self._again_at = self._node.clock.monotonic() + random.uniform(self._pause / 2, self._pause)
        self.note = why
        log.warning("%s; the next claim is tried in %.1f s", why, self._pause)

    def went_well(self, started_at: float, lease_s: float) -> None:
        """An attempt that began then has run: nothing is in the way, and how long it took tells what to claim ahead."""
        self._pause, self.note = 0.0, None
        self._short = self._node.now() - started_at < lease_s / 6
