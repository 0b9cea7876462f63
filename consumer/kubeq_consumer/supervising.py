"""An agent that is started again when it dies, for machines where nobody else would do it.

One that leaves of its own accord, or that says it cannot work as it was told, has had the last word. One that was
killed, that failed or that cannot reach its queue yet is started again after a pause, up to a number of times in a row;
one that gives no sign of life any more is killed first.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from kubeq.errors import Conflict, IntegrityError, NotFound, UsageError
from kubeq_consumer.signs import EVERY_S, Pulse, kill_when_still

log = logging.getLogger(__name__)

LAST_WORDS = frozenset({0, *(kind.exit_code for kind in (UsageError, NotFound, Conflict, IntegrityError))})
"""Exit codes after which another start would end in the same way."""
RESTARTS = 8
FIRST_PAUSE_S = 1.0
"""Doubles: eight restarts in a row take four minutes, the time in which a network comes up or a queue comes back."""
LOOK_S = 0.5
"""How often it is looked, while one waits to start the next, whether somebody has asked to end."""
HEALTHY_S = 600.0
"""An agent that lived for so long begins a new row."""
WEDGED_S = 900.0
"""Longer than anything that an agent does between two signs; the longest is the `--post` of its pool."""


class Supervisor:
    """Runs a command as its child; a signal that asks to end is handed on and is the last start's end.

    `signs` is the folder in which it leaves signs of life; None: nobody looks for any, else every `look_s` seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        signs: Path | None = None,
        wedged_s: float = WEDGED_S,
        look_s: float = EVERY_S,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = list(command)
        self._signs = signs
        self._wedged_s = wedged_s
        self._look_s = look_s
        self._sleep = sleep
        self._monotonic = monotonic
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: int | None = None

    def run(self) -> int:
        """The exit code of the last agent; 128 and the signal's number for one that a signal ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hand_on)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        restarts, pause = 0, FIRST_PAUSE_S
        while True:
            began = self._monotonic()
            code = self._once()
            if self._monotonic() - began >= HEALTHY_S:
                restarts, pause = 0, FIRST_PAUSE_S
            if self._asked is not None or code in LAST_WORDS or restarts == RESTARTS:
                return code
            log.error("the agent ended with %d; it is started again in %g s", code, pause)
            self._wait(pause)
            restarts, pause = restarts + 1, 2 * pause
            if self._asked is not None:
                return code

    def _wait(self, seconds: float) -> None:
        """Return after so long, or soon after somebody has asked to end: a sleep goes on after a signal."""
        until = self._monotonic() + seconds
        while self._asked is None and (left := until - self._monotonic()) > 0:
            self._sleep(min(LOOK_S, left))

    def _once(self) -> int:
        ended = threading.Event()
        self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        if self._signs is not None:
            watched = (Pulse(self._signs, self._monotonic), self._wedged_s, ended, self._child.kill, self._look_s)
            threading.Thread(target=kill_when_still, args=watched, daemon=True).start()
        if self._asked is not None:  # the signal came while there was no child
            self._child.send_signal(self._asked)
        code = self._child.wait()
        ended.set()
        return code if code >= 0 else 128 - code

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        if self._child is not None:
            self._child.send_signal(number)
