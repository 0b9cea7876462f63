"""Counting the requests that a backend makes of its service, by the service's own name for them.

What each step of a task's journey may make is in bench/budget.py, and held by tests/contract/test_service_requests.py.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class Meter:
    """A count a kind of request; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, kind: str, requests: int = 1) -> None:
        """So many more requests of that kind were sent, whatever came of them; retries of an SDK's own count too."""
        with self._lock:
            self._counts[kind] += requests

    def read(self) -> Mapping[str, int]:
        """The counts so far."""
        with self._lock:
            return dict(self._counts)


def added(*counts: Mapping[str, int]) -> Mapping[str, int]:
    """The sums, by kind."""
    return dict(sum(map(Counter, counts), Counter()))
