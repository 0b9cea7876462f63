"""The other nodes of the pool, as one agent sees them: how many share it, and whether this one stays for the rest.

Who they are stands in the list that tasks see (`peers`), as of the last look.
"""

from __future__ import annotations

from collections.abc import Callable

from kubeq.core.model import NodeState
from kubeq.errors import BackendError
from kubeq.queue.claims import Claims
from kubeq_consumer.peers import PeerList
from kubeq_consumer.settings import AgentConfig

LOOK_AROUND_S = 30.0
NODES_LOOKED_AT = 100
"""In a pool of more nodes than that each asks the more seldom: the answer is a row a node, so that the rows read a
second would grow with the square of the nodes, and 1,100 be all that one place in DynamoDB can answer."""
SILENT_S = 180.0
"""A node that has not reported itself for three of its reports is taken for dead."""


class Neighbours:
    """What was last seen of them: `count` nodes share the pool, this one too; `first` if none has a lower number."""

    def __init__(self, config: AgentConfig, claims: Claims, now: Callable[[], float], peers: PeerList) -> None:
        self._config = config
        self._claims = claims
        self._now = now
        self._peers = peers
        self.count = 1
        self.first = True
        self._looked_at = float("-inf")
        self._asked_at = float("-inf")

    @property
    def asked_every_s(self) -> float:
        """How old what was last seen may be."""
        return LOOK_AROUND_S * max(1.0, self.count / NODES_LOOKED_AT)

    def look(self, monotonic: float) -> bool:
        """Whether it is time again to look around; then it is asked who is there, in a large pool not each time.

        While the queue is away, what was seen last stands.
        """
        if monotonic - self._looked_at < LOOK_AROUND_S:
            return False
        self._looked_at = monotonic
        if monotonic - self._asked_at >= self.asked_every_s:
            self._asked_at = monotonic
            self._ask(self._now())
        return True

    def alone(self) -> bool:
        """Whether nobody else works in the pool, or it cannot be known that somebody does; asked now."""
        self._asked_at = float("-inf")
        return not self._ask(self._now()) or self.count == 1

    def _ask(self, now: float) -> bool:
        """Look who works; False if that cannot be known now."""
        try:
            peers = self._claims.peers(self._config.pool)
        except BackendError:
            return False
        others = [
            peer
            for peer in peers
            if peer.name != self._config.node
            and peer.state is NodeState.ACTIVE
            and now - (peer.seen_at or 0.0) < SILENT_S
        ]
        self.count = len(others) + 1
        self.first = all(peer.number > self._config.number for peer in others)
        self._peers.write(others)
        return True
