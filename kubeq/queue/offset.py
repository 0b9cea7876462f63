"""How far a service's clock is ahead of this machine's, from the dates that its answers carry. Nothing here asks it."""

from __future__ import annotations

import math
import threading
from email.utils import parsedate_to_datetime

DATE_STEP_S = 1.0
"""A date in a header is cut to the second (RFC 9110, 5.6.7)."""


class ClockOffset:
    """What is known of the difference: an interval that each answer narrows. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._low, self._high = -math.inf, math.inf

    def saw(self, date: str, *, sent_at: float, received_at: float) -> None:
        """Take in the date of an answer and this machine's time around it; what is no date is passed over."""
        try:
            then = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        self.saw_time(then, then + DATE_STEP_S, sent_at=sent_at, received_at=received_at)

    def saw_time(self, earliest: float, latest: float, *, sent_at: float, received_at: float) -> None:
        """Take in between which times (epoch seconds) an answer was made, and this machine's time around it.

        An answer that contradicts what was known (a clock was set, or drifted) is believed and all before forgotten.
        """
        low, high = earliest - received_at, latest - sent_at
        if low > high:  # this machine's clock was set back meanwhile
            return
        with self._lock:
            self._low, self._high = max(self._low, low), min(self._high, high)
            if self._low > self._high:
                self._low, self._high = low, high

    def seconds(self) -> float:
        """What to add to this machine's clock; 0 as long as the answers allow that the clocks agree."""
        with self._lock:
            low, high = self._low, self._high
        return 0.0 if low <= 0.0 <= high else (low + high) / 2
