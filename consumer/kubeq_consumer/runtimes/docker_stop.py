"""Ending a container that was started: TERM, then KILL, and giving up on one that does not even end of that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kubeq.core.model import TaskId
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.docker_engine import Engine

log = logging.getLogger(__name__)
UNKILLABLE_S = 60.0
"""How long KILL may have no effect. The engine itself waits some 10 s for a container to end of it."""
AGAIN_S = 1.0
"""How soon it is killed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The container to end. `ended` is set once it has, or once nobody needs to know any more. One that was killed
    `unkillable_s` seconds ago and still runs is told to `give_up`.
    """

    engine: Engine
    container: str
    task: TaskId
    ended: threading.Event
    give_up: Callable[[], None]
    unkillable_s: float


class Stopping:
    """Stops one container. Safe to use from several threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._kill_at = float("inf")

    def stop(self, grace: float) -> None:
        """TERM now and KILL after `grace` seconds, from a thread; a later call can only bring the KILL forward."""
        kill_at = time.monotonic() + grace
        with self._lock:
            if kill_at >= self._kill_at or self._target.ended.is_set():
                return
            first, self._kill_at = self._kill_at == float("inf"), kill_at
        name = f"kubeq-stop-{self._target.task}"
        threading.Thread(target=self._stop, args=(kill_at, first), name=name, daemon=True).start()

    def _stop(self, kill_at: float, first: bool) -> None:
        ended = self._target.ended
        if kill_at > time.monotonic():
            if first:
                self._signal("SIGTERM")
            ended.wait(kill_at - time.monotonic())
        give_up_at = time.monotonic() + self._target.unkillable_s
        while not ended.is_set():
            left = give_up_at - time.monotonic()
            if left <= 0:
                killed = f"although it was killed {self._target.unkillable_s:g} s ago"
                what = f"container {self._target.container} of task {self._target.task}"
                log.error("%s does not end, %s; it is left as it is", what, killed)
                self._target.give_up()
                return
            self._signal("SIGKILL")
            ended.wait(min(AGAIN_S, left))

    def _signal(self, name: str) -> None:
        target = self._target
        try:
            target.engine.kill(target.container, name)
        except BackendError as error:
            log.warning("container %s of task %s could not be sent %s: %s", target.container, target.task, name, error)
