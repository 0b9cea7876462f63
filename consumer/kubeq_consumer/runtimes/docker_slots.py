"""A network namespace for each slot: an idle container that keeps it, which the slot's successive attempts join.

Making and tearing down a network namespace costs more than everything else about a short container. Attempts that run
side by side are in different slots, so they never share one and their ports never clash.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from kubeq.core.model import NodeName
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.docker_engine import Engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which namespace: `mode` is the engine's network mode, `bridge` or `none`."""

    node: NodeName
    slot: int
    mode: str


class SlotNetworks:
    """Makes them as they are needed and keeps them. Safe to use from several threads.

    `make` creates the idle container for a place from an image, and answers its id.
    """

    def __init__(self, engine: Engine, make: Callable[[Place, str], str]) -> None:
        self._engine = engine
        self._make = make
        self._lock = threading.Lock()
        self._locks: dict[Place, threading.Lock] = {}
        self._containers: dict[Place, str] = {}

    def join(self, place: Place, image: str) -> str:
        """The id of the container that keeps the namespace, made from `image` if there is none yet."""
        with self._lock:
            lock = self._locks.setdefault(place, threading.Lock())
        with lock:
            standing = self._containers.get(place)
            if standing is None:
                standing = self._make(place, image)
                self._containers[place] = standing
                try:
                    self._engine.start(standing)
                except BackendError:
                    self._forget(place, standing)
                    raise
            return standing

    def has_ended(self, place: Place, joined: str) -> bool:
        """Whether the namespace that somebody joined is there no more (then the next `join` answers another one)."""
        if self._containers.get(place) != joined:
            return True
        found = self._engine.inspect(joined)
        if found is not None and found["State"].get("Running"):
            return False
        log.warning("the network of slot %s (%s) had ended and is made anew", place.slot, place.mode)
        self._forget(place, joined)
        return True

    def drop_if_ended(self, place: Place) -> None:
        """See to it that the next `join` answers a namespace that is there."""
        standing = self._containers.get(place)
        if standing is not None:
            self.has_ended(place, standing)

    def close(self) -> None:
        """Remove them all. Safe twice; what an engine that is down keeps, the next agent's clean-up finds."""
        with self._lock:
            containers, self._containers = list(self._containers.values()), {}
        for container in containers:
            self._remove(container)

    def _forget(self, place: Place, container: str) -> None:
        with self._lock:
            if self._containers.get(place) == container:
                del self._containers[place]
        self._remove(container)

    def _remove(self, container: str) -> None:
        with contextlib.suppress(BackendError):
            self._engine.remove(container)
