"""Lease time behind a relay is time in which the relay was up and heard of the pool's nodes. Makes no request.

A laptop that slept, a relay that was stopped, a network that was away: afterwards every lease of the pool seems to have
run out, although its holder is about to renew it. So after every such pause nothing is taken over for one full term.
"""

from __future__ import annotations

import threading

from kubeq.core.clock import Clock
from kubeq.queue.takeover import HARMLESS_OFFSET_S

PAUSE_SHARE = 1 / 3
"""Of a term: holders renew every third of it, so in a shorter silence none of them can have run out."""
UNNOTICED_S = 0.1
"""Shorter silences are between any two requests; the shortest term there may be is five times as long."""
MOST_PAUSES = 64


class Uptime:
    """How long one pool has been served without a pause. Is its `Takeovers`; safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = (clock.now(), clock.monotonic())
        self._pauses: list[tuple[float, float]] = [(float("inf"), self._last[1])]
        """Lengths and ends by monotonic time; each shorter than the one before, whose end came earlier."""

    def touch(self) -> None:
        """A node of the pool is there now."""
        with self._lock:
            self._look()

    def allows(self, *, clock_offset: float, lease_s: float) -> bool:
        """See `Takeovers.allows`. Asked while a node's request is answered, so it is a sign of life as well."""
        with self._lock:
            now = self._look()
            counted = (ended for length, ended in self._pauses if length > lease_s * PAUSE_SHARE)
            return abs(clock_offset) <= HARMLESS_OFFSET_S and all(now - ended >= lease_s for ended in counted)

    def _look(self) -> float:
        """The monotonic time now; the time since the last look is remembered if it was a pause.

        In a sleep of the machine only the wall clock goes on, in a stop of the process both do; when somebody sets the
        wall clock, leases look older or younger than they are just as well.
        """
        wall, steady = self._clock.now(), self._clock.monotonic()
        length = max(abs(wall - self._last[0]), steady - self._last[1])
        self._last = (wall, steady)
        if length > UNNOTICED_S:
            longer = [pause for pause in self._pauses if pause[0] > length]
            self._pauses = [*longer, (length, steady)][-MOST_PAUSES:]
        return steady
