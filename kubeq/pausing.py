"""How long is waited before a request that failed for a moment is made again, and telling whoever waits for long.

When to give up is for those who repeat to say: `store.patience` counts the tries of what may take any time itself,
`queue.patience` the seconds, because a renewal has to fit into its lease.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from kubeq.errors import BackendError

TELL_EVERY_S = 60.0


def pauses(first_s: float, longest_s: float, draw: Callable[[], float]) -> Iterator[float]:
    """Seconds between 0 and a bound that doubles, up to the longest; `draw` gives a number in [0, 1).

    That is "full jitter": many clients that failed together do not come back together.
    """
    bound = first_s
    while True:
        yield draw() * bound
        bound = min(2 * bound, longest_s)


class Notice:
    """Says why it is waited, once a minute for all threads that wait; `now` gives seconds that never go back."""

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._lock = threading.Lock()
        self._told_at = float("-inf")

    def tell(self, error: BackendError) -> None:
        """That a request has failed with it and is made again."""
        with self._lock:
            if self._now() - self._told_at < TELL_EVERY_S:
                return
            self._told_at = self._now()
        self._log.warning("%s; trying again", error.message)
