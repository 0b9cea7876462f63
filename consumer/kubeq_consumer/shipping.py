"""Shipping output live: one thread turns new bytes of running attempts into log segments, only if there are any."""

from __future__ import annotations

import logging
import threading

from kubeq.core.model import Reach, TaskId
from kubeq.errors import KubeqError
from kubeq.store.base import ObjectStore
from kubeq.store.logs import LogWriter
from kubeq_consumer.capture import Capture

log = logging.getLogger(__name__)
FLUSH_S = {Reach.HOST: 0.3, Reach.NETWORK: 3.0}
"""Seconds between two segments of one attempt: often where a put is free, seldom where each is billed."""


class _Followed:
    """One attempt's output on its way; `turn` is held while a piece of it is sent."""

    def __init__(self, capture: Capture, writer: LogWriter) -> None:
        self.capture = capture
        self.writer = writer
        self.turn = threading.Lock()
        self.left = False

    def ship(self) -> None:
        """Send what is new. A piece whose put failed is sent again, and nothing after it before it."""
        with self.turn:
            while not self.left and (piece := self.capture.unshipped()):
                self.writer.append(piece)
                self.capture.shipped(len(piece))


class Shipper:
    """Follows the captures of what runs now. Safe to use from several threads."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._followed: dict[tuple[TaskId, int], _Followed] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def follow(self, task: TaskId, attempt: int, capture: Capture) -> None:
        """Ship what the capture takes from now on."""
        with self._lock:
            self._followed[task, attempt] = _Followed(capture, LogWriter(self._store, task, attempt))

    def leave(self, task: TaskId, attempt: int) -> LogWriter | None:
        """Ship no more of it; its writer, whose segments can be deleted once the whole output is stored."""
        with self._lock:
            followed = self._followed.pop((task, attempt), None)
        if followed is None:
            return None
        with followed.turn:
            followed.left = True
        return followed.writer

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S[self._store.reach]):
            with self._lock:
                followed = list(self._followed.items())
            for (task, attempt), one in followed:
                try:
                    one.ship()
                except (KubeqError, OSError) as error:
                    log.warning("the output of %s attempt %d cannot be shipped live: %s", task, attempt, error)
