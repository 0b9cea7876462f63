"""Delivering outcomes: one thread batches what ends together, and keeps on disk what the queue does not take.

Unreachable is not lost: an outcome that cannot be delivered goes to the spool, and is delivered when the queue answers.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from kubeq.core.model import Task
from kubeq.errors import AccessDenied, BackendError
from kubeq.queue.claims import Claims, Final
from kubeq_consumer.spool import Spool

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 30.0
BATCH = 100


@dataclass(frozen=True, slots=True)
class _Delivery:
    final: Final
    done: Callable[[Task | None], None]
    own: bool


class Finisher:
    """Takes outcomes from any thread; `done` is called from its own once the queue has answered, and may not block."""

    def __init__(self, claims: Claims, spool: Spool) -> None:
        self._claims = claims
        self._spool = spool
        self._waiting: queue.SimpleQueue[_Delivery | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, name="finisher", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def hand_over(self, final: Final, done: Callable[[Task | None], None], *, own: bool = True) -> None:
        """Deliver it, sooner or later; `done` gets the recorded task, or None if the attempt had been superseded.

        What is not this agent's own is given up, and `done` not called, if it may not be told by this agent.
        """
        self._waiting.put(_Delivery(final, done, own))

    def stop(self, patience_s: float) -> bool:
        """Try to deliver what is waiting, for at most that long; what is left is in the spool. True if nothing is."""
        self._stopping.set()
        self._waiting.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive() and self._waiting.empty()

    def _deliver(self) -> None:
        while True:
            batch: list[_Delivery] = []
            more = self._take(batch, wait=True)
            if batch and not self._insist(batch):
                self._waiting.put(batch[-1])  # it is in the spool too; this only tells `stop` that something is left
                return
            if not more or (self._stopping.is_set() and self._waiting.empty()):
                return  # the order to stop may have been taken while a batch waited for the queue

    def _take(self, batch: list[_Delivery], *, wait: bool = False) -> bool:
        """Move what is waiting into the batch, with `wait` at least one thing; False at the order to stop."""
        while len(batch) < BATCH and (wait or not self._waiting.empty()):
            item, wait = self._waiting.get(), False
            if item is None:
                return False
            batch.append(item)
        return True

    def _insist(self, batch: list[_Delivery], kept: int = 0) -> bool:
        """Deliver the batch, however long it takes; False if that was given up because the agent leaves.

        The first `kept` of it are in the spool already.
        """
        pause = 0.5
        while True:
            try:
                answers = self._claims.finish([delivery.final for delivery in batch])
                break
            except BackendError as error:
                if isinstance(error, AccessDenied) and not all(delivery.own for delivery in batch):
                    return self._sort_out(batch, kept, error)
                log.warning("%d outcomes cannot be delivered yet: %s", len(batch), error)
                self._take(batch)
                kept += self._keep(batch[kept:])
                if self._stopping.is_set() and pause > 1.0:
                    return False
                self._stopping.wait(random.uniform(pause / 2, pause))
                pause = min(2 * pause, LONGEST_PAUSE_S)
        for place, (delivery, answer) in enumerate(zip(batch, answers, strict=True)):
            if place < kept:
                self._spool.remove(delivery.final)
            delivery.done(answer)
        return True

    def _sort_out(self, batch: list[_Delivery], kept: int, error: AccessDenied) -> bool:
        """Deliver them one by one, so that one which may not be told by this agent holds up no other."""
        if len(batch) == 1:
            log.warning("an outcome of a dead agent stays in its spool: %s", error)
            return True
        done = [self._insist([delivery], int(place < kept)) for place, delivery in enumerate(batch)]
        return all(done)

    def _keep(self, deliveries: list[_Delivery]) -> int:
        """How many of them, in order, are in the spool now; a full disk keeps the rest in memory only."""
        for kept, delivery in enumerate(deliveries):
            try:
                self._spool.save(delivery.final)
            except BackendError as error:
                log.warning("an outcome is kept in memory only: %s", error)
                return kept
        return len(deliveries)
