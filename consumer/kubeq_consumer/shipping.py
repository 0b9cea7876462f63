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


class Shipper:
    """Follows the captures of what runs now. Safe to use from several threads."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._followed: dict[tuple[TaskId, int], tuple[Capture, LogWriter]] = {}
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
            self._followed[task, attempt] = (capture, LogWriter(self._store, task, attempt))

    def leave(self, task: TaskId, attempt: int) -> LogWriter | None:
        """Ship no more of it; its writer, whose segments can be deleted once the whole output is stored."""
        with self._lock:
            followed = self._followed.pop((task, attempt), None)
            return followed[1] if followed else None

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S[self._store.reach]):
            with self._lock:
                for (task, attempt), (capture, writer) in self._followed.items():
                    try:
                        while piece := capture.unshipped():
                            writer.append(piece)
                    except (KubeqError, OSError) as error:
                        log.warning("the output of %s attempt %d cannot be shipped live: %s", task, attempt, error)
