"""An attempt's command while it runs: it may be stopped at any time, and the first reason counts.

What starts it is the attempt's, and how it is run the runtime's.
"""

from __future__ import annotations

import logging
import threading

from kubeq.core.clock import Clock
from kubeq.core.model import Exit
from kubeq.core.outcome import Stop
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Running

log = logging.getLogger(__name__)
LONG_S = 3600.0
"""How long one look at a command may take when nothing bounds it."""


class Command:
    """The command of the attempt called `label`; it has `grace_s` seconds between TERM and KILL.

    `stop` may come from any thread, before the command runs, while it does, or later; the rest is the attempt's thread.
    """

    def __init__(self, clock: Clock, grace_s: float, label: str) -> None:
        self._clock = clock
        self._grace_s = grace_s
        self._label = label
        self._lock = threading.Lock()
        self.stopped: Stop | None = None
        """Why it is to end, if it was told to."""
        self.running: Running | None = None
        self.quiet = False
        """Whether nothing of it runs any more."""

    def stop(self, why: Stop) -> None:
        """End it for that reason; the first reason counts, but superseded beats all."""
        with self._lock:
            if self.stopped is None or why is Stop.SUPERSEDED:
                self.stopped = why
            running = self.running
        if running is not None:
            running.stop(self._grace_s)

    def began(self, running: Running) -> None:
        """It runs; if it was stopped before anybody could see that, it ends now."""
        with self._lock:
            self.running = running
            stopped = self.stopped is not None
        if stopped:
            running.stop(self._grace_s)

    def run_out(self, running: Running, timeout_s: float | None) -> Stop | None:
        """Returns when nothing of it runs any more: why we stopped it, as far as that was before its end.

        Its time limit, which begins now, is kept here, by the monotonic clock.
        """
        began = self._clock.monotonic()
        while True:
            left = LONG_S if timeout_s is None else began + timeout_s - self._clock.monotonic()
            if running.quiet(max(left, 0.0) if self.stopped is None else LONG_S):
                with self._lock:
                    self.quiet = True
                    return self.stopped
            if timeout_s is not None and self._clock.monotonic() - began >= timeout_s:
                self.stop(Stop.TIME_LIMIT)

    def exit_of(self, running: Running) -> Exit | None:
        """How it ended, when its runtime knows; None if its output could not be taken down."""
        try:
            while (exit := running.wait(LONG_S)) is None:
                pass
            return exit
        except BackendError as error:
            log.error("the output of attempt %s is lost: %s", self._label, error)
            return None
