"""One container that was created: starting it, ahead of its turn or at it, and what a start that failed means."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kubeq.core.model import Exit
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution, Sink
from kubeq_consumer.runtimes.docker_engine import EngineGone, EngineRefused
from kubeq_consumer.runtimes.docker_exit import cleaned, image_of, is_machine_trouble
from kubeq_consumer.runtimes.docker_gate import Gate
from kubeq_consumer.runtimes.docker_run import DockerRunning, Parts
from kubeq_consumer.runtimes.docker_slots import Place, SlotNetworks
from kubeq_consumer.runtimes.docker_stream import TaskOutput

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A container, the slot's namespace that it joins, and the gate before its command (None: it has none)."""

    container: str
    joined: tuple[Place, str] | None
    gate: Gate | None


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
        self._parked: DockerRunning | BackendError | None = None
        """Started up to its gate, or why that failed."""

    def park(self, output: Sink) -> bool:
        """Start it up to its gate, if it has one."""
        if self._made.gate is None:
            return False
        try:
            self._parked = self._start(output, at_once=False)
        except BackendError as error:
            self._parked = error
        return True

    def start(self, output: Sink) -> DockerRunning:
        """Run it. If its slot's network or what was parked has ended, that and the container are made anew, once."""
        try:
            running = self._let_go(output)
            if running is not None:
                return running
        except EngineRefused as error:
            joined = self._made.joined
            if joined is None or not self._maker.slots.has_ended(*joined):
                return self._never_started(output, error)
        self.discard()
        self._made = self._maker.make(self._execution)
        try:
            return self._start(output, at_once=True)
        except EngineRefused as error:
            return self._never_started(output, error)

    def discard(self) -> None:
        """Remove the container. What the engine does not remove now is left to the next clean-up of leftovers."""
        parked, self._parked = self._parked, None
        if isinstance(parked, DockerRunning):
            parked.abandon()
        try:
            self._parts.engine.remove(self._made.container)
        except BackendError as error:
            self._parts.give_up(self._made.container)
            log.warning("container %s was not removed: %s", self._made.container, error)
        if self._made.gate is not None:
            self._made.gate.close()

    def _let_go(self, output: Sink) -> DockerRunning | None:
        """What runs now; None if it was parked and has ended at its gate (somebody has killed it)."""
        parked, self._parked = self._parked, None
        if isinstance(parked, BackendError):
            raise parked
        if parked is None:
            return self._start(output, at_once=True)
        if parked.quiet(0):
            log.warning("container %s ended before its turn came and is made anew", self._made.container)
            parked.abandon()
            return None
        parked.begin()
        return parked

    def _start(self, output: Sink, *, at_once: bool) -> DockerRunning:
        engine, container = self._parts.engine, self._made.container
        running = DockerRunning(self._parts, self._execution, container, TaskOutput(output), self._made.gate)
        running.follow(engine.attach(container))
        if at_once:
            running.begin()
        try:
            engine.start(container)
        except EngineGone:
            running.doubt()
        except BackendError:
            running.abandon()
            raise
        running.settle()
        return running

    def _never_started(self, output: Sink, error: EngineRefused) -> DockerRunning:
        if is_machine_trouble(error.message):
            raise BackendError(f"the machine could not start a container: {error.message}", transient=True) from error
        found = self._parts.engine.inspect(self._made.container)
        why = f"{cleaned(error.message)} ({image_of(self._execution)})"
        exit = Exit(vanished=True) if found is None else Exit(never_started=why)
        made = self._made
        running = DockerRunning(self._parts, self._execution, made.container, TaskOutput(output), made.gate)
        running.conclude(exit)
        return running
