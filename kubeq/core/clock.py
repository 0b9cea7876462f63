"""What time it is. Everything that waits or compares times is given a Clock, so that tests own the time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that other machines can compare with theirs, one that never jumps."""

    def now(self) -> float:
        """Epoch seconds; may jump when the machine's time is set or after a sleep."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; only grows."""
        ...


class SystemClock:
    """This machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
