"""Signs of life: files in a folder that whoever watches over the agent looks at. Without a folder there are none."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)
REGISTERED, ALIVE = "registered", "alive"
EVERY_S = 10.0


class Signs:
    """What an agent leaves: `registered` once the queue knows its node, `alive` written anew as long as it works."""

    def __init__(self, folder: Path | None, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._left_at = float("-inf")
        self._registered = False

    def alive(self) -> None:
        """Its loop has come round once more."""
        if self._monotonic() - self._left_at >= EVERY_S:
            self._left_at = self._monotonic()
            self._leave(ALIVE)

    def registered(self) -> None:
        """The queue has taken the row of the node."""
        if not self._registered:
            self._registered = True
            self._leave(REGISTERED)

    def _leave(self, name: str) -> None:
        if self._folder is None:
            return
        try:
            (self._folder / name).write_text("")
            (self._folder / name).touch()
        except OSError as error:
            log.warning("it cannot be shown that this agent lives: %s", error)


class Pulse:
    """Watches the sign of life of an agent that was just started."""

    def __init__(self, folder: Path, monotonic: Callable[[], float]) -> None:
        self._file = folder / ALIVE
        self._monotonic = monotonic
        self._seen = self._mark()
        self._changed_at = monotonic()

    def still_for(self) -> float:
        """How long there has been no new sign, as far as was looked."""
        mark, now = self._mark(), self._monotonic()
        if mark != self._seen:
            self._seen, self._changed_at = mark, now
        return now - self._changed_at

    def _mark(self) -> int | None:
        try:
            return self._file.stat().st_mtime_ns
        except OSError:
            return None


def kill_when_still(
    pulse: Pulse, limit_s: float, ended: threading.Event, kill: Callable[[], None], look_s: float = EVERY_S
) -> None:
    """Call `kill` once there has been no sign for so long, unless `ended` comes first; looked at every `look_s`."""
    while not ended.wait(look_s):
        if pulse.still_for() > limit_s:
            log.error("the agent has given no sign of life for %g s; it is killed", limit_s)
            kill()
            return
