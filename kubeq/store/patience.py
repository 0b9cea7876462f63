"""How often a request that failed for a moment is made again. Nothing here knows stores.

Two use it: `Retrying` for whole calls of a store, and a backend in which one call is many requests for each of these,
since of thousands some always fail. An error that such a request still ends with is marked `waited`, which `Retrying`
lets pass: nothing is ever retried by both.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from kubeq.errors import BackendError
from kubeq.pausing import Notice, pauses

T = TypeVar("T")

ATTEMPTS = 8
"""With the pauses below: gives up after 31 seconds on average, 63 at most, and the time of the requests themselves."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
TELL_AFTER = 3
"""The failure in a row from which on somebody who waits is told why; before, most errors have passed."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Up to `attempts` tries in all, with pauses between. `sleep` gets seconds, `draw` gives a number in [0, 1)."""

    sleep: Callable[[float], None] = time.sleep
    attempts: int = ATTEMPTS
    draw: Callable[[], float] = random.random
    notice: Notice = field(default_factory=lambda: Notice(log))

    def repeat(self, request: Callable[[], T]) -> T:
        """What the request answers, in the end. Raises its last error, or one that is not worth another try."""
        between = islice(pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S, self.draw), self.attempts - 1)
        for failures, pause in enumerate(between, 1):
            try:
                return request()
            except BackendError as error:
                if not error.transient or error.waited:
                    raise
                if failures >= TELL_AFTER:
                    self.notice.tell(error)
            self.sleep(pause)
        return request()

    def repeat_one_of_many(self, request: Callable[[], T]) -> T:
        """The same for one of the requests of a call; its last error is marked, so that the call is not repeated."""
        try:
            return self.repeat(request)
        except BackendError as error:
            error.waited = True
            raise
