"""Whether and why an agent leaves: the decision and the clocks that it depends on. What leaving takes is in `agent`."""

from __future__ import annotations

import threading

from kubeq.core.clock import Clock
from kubeq.core.model import GoneReason
from kubeq_consumer.neighbours import SILENT_S, Neighbours
from kubeq_consumer.settings import AgentConfig

FIRST_JOB_S = 10.0
"""How long the agent of a private pool waits for its job, which is there before it unless somebody has killed it."""
DELIVERY_PATIENCE_S = 15.0
"""How long a leaving agent waits for the queue to take its last outcomes; the spool keeps them after that."""
REVOCABLE = frozenset({None, GoneReason.IDLE, GoneReason.STRIKES})
"""What an order or a signal takes the place of: an agent that leaves for one of these may yet stay."""


class Parting:
    """`reason` is why the agent leaves, None as long as it does not; `words` are its last ones, for its row."""

    def __init__(self, config: AgentConfig, clock: Clock, neighbours: Neighbours) -> None:
        self._config = config
        self._clock = clock
        self._neighbours = neighbours
        self._lock = threading.Lock()
        self._had_jobs = False
        self._open_jobs = 0
        self._beyond = False
        self._busy_at = clock.monotonic()
        self._waited_since: float | None = None
        self.reason: GoneReason | None = None
        self.words: str | None = None

    def begin(self, reason: GoneReason) -> bool:
        """Leave for that reason; False if another one has decided before."""
        with self._lock:
            decides = self.reason in REVOCABLE
            if decides:
                self.reason = reason
            return decides

    def take_back(self, reason: GoneReason) -> None:
        """Stay after all, unless another reason to leave has come meanwhile."""
        with self._lock:
            if self.reason is reason:
                self.reason, self.words = None, None

    def was_busy(self) -> None:
        """There was work up to now."""
        self._busy_at = self._clock.monotonic()

    def saw_jobs(self, count: int, *, beyond: bool) -> None:
        """So many jobs of the pool are open; `beyond`: all that is due in them is too big for this node."""
        self._open_jobs = count
        self._beyond = beyond
        self._had_jobs = self._had_jobs or count > 0

    def is_due(self) -> bool:
        """Whether there has been nothing to do for long enough.

        While jobs of the pool are open their tasks may come back, from a node that died or a back-off: the first node
        stays for them, and the others until it is certain that the first is alive. A node that is alone with tasks that
        it can never run has no reason to stay, and may cost money.
        """
        idle = self._clock.monotonic() - self._busy_at
        if self._config.until_idle:
            return self._open_jobs == 0 and (self._had_jobs or idle >= FIRST_JOB_S)
        if self._open_jobs and not (self._beyond and self._neighbours.count == 1):
            certain_s = SILENT_S + self._neighbours.asked_every_s
            return not self._neighbours.first and idle >= max(self._config.linger_others_s, certain_s)
        return idle >= (self._config.linger_s if self._neighbours.first else self._config.linger_others_s)

    def is_overdue(self, *, running: bool) -> bool:
        """Whether a leaving agent has waited long enough for outcomes to be delivered: the spool keeps them."""
        if running:
            self._waited_since = None
            return False
        now = self._clock.monotonic()
        if self._waited_since is None:
            self._waited_since = now
        return now - self._waited_since > DELIVERY_PATIENCE_S
