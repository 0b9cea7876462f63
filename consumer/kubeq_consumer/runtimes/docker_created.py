"""One container that was created: starting it, and what a start that failed means."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kubeq.core.model import Exit
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution, Sink
from kubeq_consumer.runtimes.docker_engine import EngineGone, EngineRefused
from kubeq_consumer.runtimes.docker_exit import cleaned, image_of, is_machine_trouble
from kubeq_consumer.runtimes.docker_run import DockerRunning, Parts
from kubeq_consumer.runtimes.docker_slots import Place, SlotNetworks
from kubeq_consumer.runtimes.docker_stream import TaskOutput

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A container, and the slot's namespace that it joins."""

    container: str
    joined: tuple[Place, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """How a container is made once more, when the network that it should join has ended."""

    slots: SlotNetworks
    make: Callable[[Execution], Made]


class DockerCreated:
    """A container that was created and could start at once."""

    def __init__(self, maker: Maker, parts: Parts, execution: Execution, made: Made) -> None:
        self._maker = maker
        self._parts = parts
        self._execution = execution
        self._made = made

    def start(self, output: Sink) -> DockerRunning:
        """Run it. If its slot's network has ended, the network and the container are made anew, once."""
        try:
            return self._start(output)
        except EngineRefused as error:
            joined = self._made.joined
            if joined is None or not self._maker.slots.has_ended(*joined):
                return self._never_started(output, error)
        self.discard()
        self._made = self._maker.make(self._execution)
        try:
            return self._start(output)
        except EngineRefused as error:
            return self._never_started(output, error)

    def discard(self) -> None:
        """Remove the container. What the engine does not remove now is left to the next clean-up of leftovers."""
        try:
            self._parts.engine.remove(self._made.container)
        except BackendError as error:
            self._parts.give_up(self._made.container)
            log.warning("container %s was not removed: %s", self._made.container, error)

    def _start(self, output: Sink) -> DockerRunning:
        engine, container = self._parts.engine, self._made.container
        running = DockerRunning(self._parts, self._execution, container, TaskOutput(output))
        attached = engine.attach(container)
        running.follow(attached)
        try:
            engine.start(container)
        except EngineGone:
            running.doubt()
        except BackendError:
            running.abandon(attached)
            raise
        running.settle()
        return running

    def _never_started(self, output: Sink, error: EngineRefused) -> DockerRunning:
        if is_machine_trouble(error.message):
            raise BackendError(f"the machine could not start a container: {error.message}", transient=True) from error
        found = self._parts.engine.inspect(self._made.container)
        why = f"{cleaned(error.message)} ({image_of(self._execution)})"
        exit = Exit(vanished=True) if found is None else Exit(never_started=why)
        running = DockerRunning(self._parts, self._execution, self._made.container, TaskOutput(output))
        running.conclude(exit)
        return running
