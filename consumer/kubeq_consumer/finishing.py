"""Delivering outcomes: one thread batches what ends together, and tries for ever what the queue does not take.

Unreachable is not lost: an outcome that cannot be delivered goes to the spool and is delivered when the queue answers.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from kubeq.core.model import Task
from kubeq.errors import BackendError
from kubeq.queue.claims import Claims, Final
from kubeq_consumer.spool import Spool

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 30.0
BATCH = 100


@dataclass(frozen=True, slots=True)
class _Delivery:
    final: Final
    done: Callable[[Task | None], None]


class Finisher:
    """Takes outcomes from any thread; `done` is called from its own once the queue has answered."""

    def __init__(self, claims: Claims, spool: Spool) -> None:
        self._claims = claims
        self._spool = spool
        self._waiting: queue.SimpleQueue[_Delivery | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, name="finisher", daemon=True)
        self._pause = threading.Event()
        self._stopping = False
        self.failing = False

    def start(self) -> None:
        self._thread.start()

    def hand_over(self, final: Final, done: Callable[[Task | None], None]) -> None:
        """Deliver it, sooner or later; `done` gets the recorded task, or None if the attempt had been superseded."""
        self._waiting.put(_Delivery(final, done))

    def stop(self, patience_s: float) -> bool:
        """Deliver what is waiting for at most that long; what is left stays in the spool. True if nothing is left."""
        self._waiting.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _deliver(self) -> None:
        while not self._stopping:
            batch: list[_Delivery] = []
            self._take(batch, wait=True)
            if batch:
                self._insist(batch)

    def _take(self, batch: list[_Delivery], *, wait: bool = False) -> None:
        """Move what is waiting into the batch; with `wait`, at least one thing or the order to stop."""
        while len(batch) < BATCH and (wait or not self._waiting.empty()):
            item, wait = self._waiting.get(), False
            if item is None:
                self._stopping = True
                return
            batch.append(item)

    def _insist(self, batch: list[_Delivery]) -> None:
        pause, kept = 0.5, 0
        while True:
            try:
                answers = self._claims.finish([delivery.final for delivery in batch])
                break
            except BackendError as error:
                log.warning("%d outcomes cannot be delivered yet and are kept: %s", len(batch), error)
                self.failing = True
                self._take(batch)
                for delivery in batch[kept:]:
                    self._spool.save(delivery.final)
                kept = len(batch)
                self._pause.wait(random.uniform(pause / 2, pause))
                pause = min(2 * pause, LONGEST_PAUSE_S if not self._stopping else 1.0)
        for delivery, answer in zip(batch, answers, strict=True):
            if self.failing:
                self._spool.remove(delivery.final)
            delivery.done(answer)
        self.failing = False
