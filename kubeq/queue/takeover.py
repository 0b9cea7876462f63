"""Whether this agent may take over an expired lease at all: only while its idea of time can be trusted.

A lease end is written by one machine and compared by another. An offset of up to 30 s is harmless with terms of 120 s;
beyond that an agent works and renews but takes over nothing. After a sleep of the machine every lease on it looks
expired although its holder is about to wake up too, so nothing is taken over for one full term.
"""

from __future__ import annotations

from typing import Protocol

from kubeq.core.clock import Clock

HARMLESS_OFFSET_S = 30.0


class Takeovers(Protocol):
    """Who decides whether silence proves anything now."""

    def allows(self, *, clock_offset: float, lease_s: float) -> bool:
        """Whether an expired lease of that term may be taken over now."""
        ...


class TakeoverGuard:
    """Remembers how wall time and monotonic time lie to each other. Not thread-safe: one agent, one guard."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drift: float | None = None
        self._closed_until = float("-inf")

    def allows(self, *, clock_offset: float, lease_s: float) -> bool:
        """See `Takeovers.allows`."""
        monotonic = self._clock.monotonic()
        drift = self._clock.now() - monotonic
        if self._drift is not None and abs(drift - self._drift) > lease_s / 3:
            self._closed_until = monotonic + lease_s
        self._drift = drift
        return abs(clock_offset) <= HARMLESS_OFFSET_S and monotonic >= self._closed_until
