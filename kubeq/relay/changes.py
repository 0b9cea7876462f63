"""Telling many nodes that wait for the same queue that it has changed: one thread looks for all of them."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

from kubeq.errors import BackendError
from kubeq.queue.base import RecordTable

log = logging.getLogger(__name__)
LOOK_S = 0.1
"""How long one look at the table lasts where nothing changes. After each, those who wait are seen to be still there."""
REST_S = 0.05
REST_A_WAITER_S = 0.005
"""A change wakes everybody who waits, and each of them asks at once: the more there are, the longer is between two."""
TROUBLE_S = 1.0


class Changes:
    """The changes of one table, numbered. The thread looks only while somebody waits."""

    def __init__(self, table: RecordTable) -> None:
        self._table = table
        self._name = secrets.token_hex(8)
        self._number = 0
        self._waiting: dict[object, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def wait(self, seen: str | None, seconds: float, alive: Callable[[], None]) -> str:
        """The mark of the newest change, as soon as it is another than `seen`, or after `seconds`.

        Meanwhile `alive` is called at least every tenth of a second, unless this process is stopped.
        """
        deadline, place = time.monotonic() + seconds, object()
        with self._changed:
            self._waiting[place] = alive
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="changes", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            try:
                while self._mark() == seen and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                return self._mark()
            finally:
                del self._waiting[place]

    def _mark(self) -> str:
        return f"{self._name}.{self._number}"

    def _look(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                waiting = list(self._waiting.values())
            for alive in waiting:
                alive()
            began = time.monotonic()
            try:
                self._table.wait(LOOK_S)
            except BackendError as error:
                log.warning("the queue cannot be looked at: %s", error)
                time.sleep(TROUBLE_S)
                continue
            if time.monotonic() - began < LOOK_S:
                with self._changed:
                    self._number += 1
                    self._changed.notify_all()
                time.sleep(REST_S + REST_A_WAITER_S * len(waiting))
