"""How often a request that failed for a moment is made again, and how long is waited before. Nothing here knows stores.

Two use it: `Retrying` for whole calls of a store, and a backend in which one call is many requests for each of these,
since of thousands some always fail. An error that such a request still ends with is marked `waited`, which `Retrying`
lets pass: nothing is ever retried by both.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from kubeq.errors import BackendError

T = TypeVar("T")

ATTEMPTS = 8
"""With the pauses below: gives up after 31 seconds on average, 63 at most, and the time of the requests themselves."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
TOLD_FROM_S = 2.0
"""The pause from which on somebody who waits is told why; before, most errors have passed."""
TOLD_EVERY_S = 30.0

log = logging.getLogger(__name__)


class _Notice:
    """Says why it is waited, once for all threads that wait now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told_at = float("-inf")

    def tell(self, error: BackendError) -> None:
        with self._lock:
            if time.monotonic() - self._told_at < TOLD_EVERY_S:
                return
            self._told_at = time.monotonic()
        log.warning("%s; trying again", error.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Up to `attempts` tries in all, with pauses drawn between 0 and a bound that doubles.

    That is "full jitter": many clients that failed together do not come back together. `sleep` gets seconds, `draw`
    gives a number in [0, 1).
    """

    sleep: Callable[[float], None] = time.sleep
    attempts: int = ATTEMPTS
    draw: Callable[[], float] = random.random
    _notice: _Notice = field(default_factory=_Notice)

    def repeat(self, request: Callable[[], T]) -> T:
        """What the request answers, in the end. Raises its last error, or one that is not worth another try."""
        bound = FIRST_PAUSE_S
        for _ in range(1, self.attempts):
            try:
                return request()
            except BackendError as error:
                if not error.transient or error.waited:
                    raise
                if bound >= TOLD_FROM_S:
                    self._notice.tell(error)
            self.sleep(self.draw() * min(bound, LONGEST_PAUSE_S))
            bound *= 2
        return request()

    def repeat_one_of_many(self, request: Callable[[], T]) -> T:
        """The same for one of the requests of a call; its last error is marked, so that the call is not repeated."""
        try:
            return self.repeat(request)
        except BackendError as error:
            error.waited = True
            raise
