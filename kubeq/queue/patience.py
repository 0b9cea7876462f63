"""How long a request that failed for a moment is made again. Nothing here knows a table.

For tables in a network: one call of theirs may be hundreds of requests, of which some always fail.
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
from kubeq.pausing import Notice, pauses

T = TypeVar("T")

PATIENCE_S = 20.0
"""A sixth of the default lease: a renewal that takes no longer leaves time for another."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
TELL_AFTER = 4
"""The failure in a row from which on somebody who waits is told why."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Tries again for `total_s`, with pauses between. `sleep` gets seconds, `draw` gives a number in [0, 1), `now`
    seconds that never go back. Safe to use from several threads.
    """

    total_s: float = PATIENCE_S
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random
    now: Callable[[], float] = time.monotonic
    notice: Notice = field(default_factory=lambda: Notice(log))

    def repeat(self, request: Callable[[], T], stop: threading.Event | None = None) -> T:
        """What the request answers, in the end.

        Raises an error that is not worth another try; or its last one, marked as `waited`, so that nobody above begins
        again. `stop` ends the patience as soon as it is set.
        """
        deadline = self.now() + self.total_s
        for failures, pause in enumerate(pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S, self.draw), 1):
            try:
                return request()
            except BackendError as error:
                if not error.transient or error.waited:
                    raise
                if self.now() + pause >= deadline:
                    error.waited = True
                    raise
                if failures >= TELL_AFTER:
                    self.notice.tell(error)
                if stop is None:
                    self.sleep(pause)
                elif stop.wait(pause):
                    raise
        raise AssertionError("there is always another pause")
