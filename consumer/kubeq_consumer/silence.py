"""When an agent gives its queue up: after a stated time without an answer, or when it is refused again and again.

Unreachable is not lost: what runs is never touched for it. But an agent that nobody will ever hear of again must not
wait for ever, on a machine that may be somebody else's or paid for. One that holds something waits for a day.
"""

from __future__ import annotations

from kubeq.core.clock import Clock
from kubeq.errors import AccessDenied, BackendError

LOST_S = 24 * 3600.0
REFUSED_S = 600.0
"""An answer that says no to this agent (a relay that has let it go, credentials that ended) may be mended, but soon."""


class Silence:
    """How long the queue has not given this agent anything."""

    def __init__(self, clock: Clock, lost_s: float = LOST_S) -> None:
        self._clock = clock
        self._lost_s = lost_s
        self._since = clock.monotonic()
        self._refused = False

    def end(self) -> None:
        """The queue has answered."""
        self._since, self._refused = self._clock.monotonic(), False

    def go_on(self, error: BackendError) -> None:
        """The queue has not answered, or with a no."""
        self._refused = isinstance(error, AccessDenied)

    def is_final(self, *, holding: bool) -> bool:
        """Whether there is nothing left to hope for; `holding`: for an agent that still has something to deliver."""
        silent = self._clock.monotonic() - self._since
        return silent > (REFUSED_S if self._refused else max(self._lost_s, LOST_S) if holding else self._lost_s)
