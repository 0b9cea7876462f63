"""One container that was started: following its output to the end, what became of it, and removing it.

A thread a running container reads its output, then asks how it ended. If the engine goes away meanwhile, the thread
waits until one answers again and then looks what is left; `wait` answers None as long as its caller has patience.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubeq.core.model import Exit, TaskId, Usage
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.cgroup import GroupV1, GroupV2, Reading, find_group
from kubeq_consumer.runtimes.docker_engine import Engine, EngineGone, EngineRefused
from kubeq_consumer.runtimes.docker_exit import Circumstances, exit_of, image_of, seconds_run
from kubeq_consumer.runtimes.docker_gate import Gate
from kubeq_consumer.runtimes.docker_socket import Attached
from kubeq_consumer.runtimes.docker_stop import UNKILLABLE_S, Stopping, Target
from kubeq_consumer.runtimes.docker_stream import TaskOutput, pump
from kubeq_consumer.runtimes.sampler import Sampler, Watch

log = logging.getLogger(__name__)
GAP = b"\nkubeq: the Docker engine was restarted while this ran; output may be missing here\n"
AGAIN_S = 1.0
"""How soon what failed for now is tried again."""
END_PING_S = 2.0
"""An engine that takes longer to answer at the end of a container may just be starting, having ended it itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a running container needs of the runtime.

    `give_up` is told of a container that could not be ended or removed; `unkillable_s` is how long KILL may have no
    effect before that.
    """

    engine: Engine
    sampler: Sampler
    give_back: Callable[[Execution], None]
    give_up: Callable[[str], None]
    unkillable_s: float = UNKILLABLE_S


class DockerRunning:
    """A container that was started; its command begins when its gate is opened, or at once if it has none."""

    def __init__(
        self, parts: Parts, execution: Execution, container: str, output: TaskOutput, gate: Gate | None = None
    ) -> None:
        self._parts = parts
        self._engine = parts.engine
        self._execution = execution
        self._container = container
        self._output = output
        self._gate = gate
        self._group: GroupV1 | GroupV2 | None = None
        self._watch = Watch(self._read_group, lambda: self._group.process() if self._group else None)
        self._begun = time.monotonic()
        self._begun_at = 0.0
        self._wall_s: float | None = None
        self._lock = threading.Lock()
        self._attached: Attached | None = None
        self._settled = threading.Event()
        self._ended = threading.Event()
        self._let_go = threading.Event()
        self._engine_went = False
        self._abandoned = False
        self._exit: Exit | None = None
        self._failure: BackendError | None = None
        self._stopping = Stopping(
            Target(
                engine=parts.engine,
                container=container,
                task=execution.task,
                ended=self._ended,
                give_up=self._give_up,
                unkillable_s=parts.unkillable_s,
            )
        )

    def follow(self, attached: Attached) -> None:
        """Read its output from now on, and see it through to its end."""
        self._attached = attached
        self._parts.sampler.add(self._watch)
        name = f"kubeq-output-{self._execution.task}"
        threading.Thread(target=self._follow, args=(attached,), name=name, daemon=True).start()

    def begin(self) -> None:
        """Let its command go, which may run at once or once the container has come so far."""
        self._begun = time.monotonic()
        if self._gate is not None:
            self._begun_at = time.time()
            self._parts.sampler.add(self._watch)  # anew: looked at often, as at the start of anything
            self._gate.open()

    def settle(self) -> None:
        """The engine has said that it runs."""
        self._settled.set()

    def doubt(self) -> None:
        """The engine's answer to the start was lost: whether it runs will be seen when an engine answers again."""
        self._engine_went = True

    def abandon(self) -> None:
        """Its command does not run and never will, and why is said elsewhere."""
        self._abandoned = True
        self._let_go.set()
        self._settled.set()
        if self._attached is not None:
            self._attached.interrupt()

    def conclude(self, exit: Exit) -> None:
        """It has ended so, without having run."""
        self._exit = exit
        self._watch.end()
        self._ended.set()

    def quiet(self, timeout: float) -> bool:
        """Whether its last process has ended. The kernel tells that tenths of a second before the engine does.

        Where it cannot be seen from here (a node with an agent in a container), the engine's word is waited for.
        """
        return self._watch.quiet.wait(timeout)

    def wait(self, timeout: float) -> Exit | None:
        """How it ended; raises BackendError if its output could not be written or its end not be learnt.

        One that does not end although it was killed long ago has `vanished`, and nothing more is written of its output.
        """
        if not self._ended.wait(timeout):
            return None
        if self._failure is not None:
            raise self._failure
        assert self._exit is not None, "the thread that follows a container ends with an exit or a failure"
        return self._exit

    def usage(self) -> Usage:
        """What it has used up to now."""
        if not self._ended.is_set():
            self._watch.look()
        reading = self._watch.reading
        wall_s = time.monotonic() - self._begun if self._wall_s is None else self._wall_s
        return Usage(
            wall_s=wall_s,
            cpu_s=reading.cpu_s,
            peak_memory_bytes=reading.peak_memory_bytes,
            read_bytes=reading.read_bytes,
            written_bytes=reading.written_bytes,
        )

    def stop(self, grace: float) -> None:
        """TERM to the command's process group, KILL to everything in the container after `grace` seconds.

        A later call can only bring the KILL forward.
        """
        self._stopping.stop(grace)

    def remove(self) -> None:
        """Remove the container. What the engine does not remove now is left to the next clean-up of leftovers."""
        self._let_go.set()
        try:
            self._engine.remove(self._container)
        except BackendError as error:
            self._parts.give_up(self._container)
            log.warning("container %s of task %s was not removed: %s", self._container, self._execution.task, error)
        if self._gate is not None:
            self._gate.close()

    @property
    def task(self) -> TaskId:
        return self._execution.task

    def _follow(self, attached: Attached) -> None:
        exit, failure = None, None
        try:
            exit = self._seen_through(attached)
            if not self._abandoned:
                self._return_files()
            if self._output.failure is not None:
                failure = BackendError(f"the output of task {self.task} could not be written: {self._output.failure}")
        except BackendError as error:
            failure = error
            self.remove()  # what cannot be followed must not go on running unseen
        finally:
            self._finish(exit, failure)

    def _finish(self, exit: Exit | None, failure: BackendError | None) -> None:
        """What `wait` says from now on; the first one to come here decides."""
        with self._lock:
            if self._ended.is_set():
                return
            self._exit, self._failure = exit, failure
            if self._wall_s is None:
                self._wall_s = time.monotonic() - self._begun
            self._watch.end()
            self._ended.set()

    def _return_files(self) -> None:
        try:
            self._parts.give_back(self._execution)
        except BackendError as error:
            log.warning("task %s may have left files that this user cannot read: %s", self.task, error)

    def _seen_through(self, attached: Attached) -> Exit:
        while True:
            self._attached = attached
            self._drain(attached)
            self._settled.wait()
            exit = self._verdict()
            if exit is not None:
                return exit
            try:
                attached = self._engine.attach(self._container)
            except BackendError as error:
                log.warning("the output of container %s cannot be followed again yet: %s", self._container, error)
                time.sleep(AGAIN_S)

    def _drain(self, attached: Attached) -> None:
        try:
            pump(attached.read, self._output)
        except OSError as error:
            log.info("the output connection of container %s broke: %s", self._container, error)
        finally:
            attached.close()

    def _verdict(self) -> Exit | None:
        """How it ended; None if it runs on, under an engine that went away and came back."""
        while not self._let_go.is_set():
            try:
                if self._engine_went:
                    self._await_engine()
                while not (self._engine_went or self._let_go.is_set() or self._engine.wait(self._container)):
                    pass
                if self._let_go.is_set():
                    break
                found = self._engine.inspect(self._container)
                self._engine.ping(END_PING_S)  # an engine that is going down ends its containers and answers nobody new
                if found is None:
                    break
                if not found["State"].get("Running"):
                    return self._exit_in(found["State"])
                self._engine_went = False
                return None
            except EngineRefused as error:
                if error.status == 404:
                    break
                log.warning("how container %s ended cannot be learnt yet: %s", self._container, error)
                time.sleep(AGAIN_S)
            except EngineGone:
                self._engine_went = True
        return Exit(vanished=True)

    def _exit_in(self, state: dict[str, Any]) -> Exit:
        refusal = self._output.refusal
        around = Circumstances(
            oom_kills=self._watch.reading.oom_kills or 0,
            refusal=refusal and f"{refusal} ({image_of(self._execution)})",
            engine_went=self._engine_went,
            engine_keeps_containers=self._engine_went and self._engine.keeps_containers(),
        )
        self._wall_s = seconds_run(state, since=self._begun_at)
        return exit_of(state, around)

    def _await_engine(self) -> None:
        pause = 0.05
        while not self._let_go.is_set():
            try:
                self._engine.ping()
                self._output.write(GAP)
                return
            except BackendError:
                self._let_go.wait(pause)
                pause = min(1.0, pause * 2)

    def _give_up(self) -> None:
        """The node goes on without the container, which the clean-up of leftovers finds."""
        self._abandoned = True
        self._parts.give_up(self._container)
        self._output.close()
        self._finish(Exit(vanished=True), None)
        self.abandon()

    def _read_group(self) -> Reading | None:
        if self._group is None or not self._group.whole:
            self._group = find_group(self._container) or self._group
        return None if self._group is None else self._group.read()
