"""How long a request that failed for a moment is made again, and how long is waited before. Nothing here knows a table.

For tables in a network: one call of theirs may be hundreds of requests, of which some always fail. Who waits long is
told once a minute.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from kubeq.errors import BackendError

T = TypeVar("T")

PATIENCE_S = 20.0
"""A sixth of the default lease: a renewal that takes no longer leaves time for another."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
TELL_AFTER = 4
"""Failures in a row that nobody is told of."""
TELL_EVERY_S = 60.0
log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Patience:
    """Tries again for `total_s`, with pauses drawn between 0 and a bound that doubles.

    That is "full jitter": many clients that failed together do not come back together. `sleep` gets seconds, `draw`
    gives a number in [0, 1), `now` seconds that never go back. Safe to use from several threads.
    """

    total_s: float = PATIENCE_S
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random
    now: Callable[[], float] = time.monotonic
    told_at: float = field(default=-math.inf, init=False)

    def repeat(self, request: Callable[[], T], stop: threading.Event | None = None) -> T:
        """What the request answers, in the end.

        Raises an error that is not worth another try; or its last one, marked as `waited`, so that nobody above begins
        again. `stop` ends the patience as soon as it is set.
        """
        deadline = self.now() + self.total_s
        for attempt in count(1):
            try:
                return request()
            except BackendError as error:
                if not error.transient or error.waited:
                    raise
                pause = self.draw() * min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S)
                if self.now() + pause >= deadline:
                    error.waited = True
                    raise
                self._tell(attempt, error)
                if stop is None:
                    self.sleep(pause)
                elif stop.wait(pause):
                    raise
        raise AssertionError("the loop returns or raises")

    def _tell(self, attempt: int, error: BackendError) -> None:
        now = self.now()
        if attempt >= TELL_AFTER and now - self.told_at >= TELL_EVERY_S:
            self.told_at = now
            log.warning("%s; trying again", error.message)
