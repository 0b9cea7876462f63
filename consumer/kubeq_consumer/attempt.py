"""One attempt's way through the node: prepare, wait for its turn, run, stage out, hand over. One thread an attempt.

Everything that decides an outcome is here; how a command runs is the runtime's, when it may start is the agent's.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from functools import partial

from kubeq.core.model import Ending, Reason, Task
from kubeq.core.outcome import Stop, Verdict
from kubeq.core.transitions import Report
from kubeq.errors import BackendError, ImageUnavailable, KubeqError
from kubeq.queue.claims import Final, Grant
from kubeq_consumer.checkpointing import Keeping
from kubeq_consumer.command import Command
from kubeq_consumer.lease import confirm
from kubeq_consumer.preparing import FAULTS_OF_THE_TASK, Node, Prepared, prepare
from kubeq_consumer.publishing import Ended, Seen, judged, publish
from kubeq_consumer.runtimes.base import Created, Running

log = logging.getLogger(__name__)


class Phase(Enum):
    PREPARING = auto()
    READY = auto()
    RUNNING = auto()
    SETTLING = auto()
    """Nothing of it runs any more, and its slot is free; how it ended may not be known yet."""
    DONE = auto()


class Attempt:
    """A grant on its way. `changed` is called, from its own thread, whenever its phase has changed."""

    def __init__(self, node: Node, grant: Grant, slot: int, changed: Callable[[Attempt], None]) -> None:
        self.lock = threading.Lock()
        self.grant = grant
        self.renewed_at = node.clock.monotonic()
        self.started_at: float | None = None
        self.slot = slot
        self.phase = Phase.PREPARING
        self.ready_at: float | None = None
        self.engine_failed = False
        self.trouble: str | None = None
        self.gone = False
        self.recorded = False
        self.final: Final | None = None
        """How it ended, once the queue has recorded that."""
        self._stored = False
        self._keeping: Keeping | None = None
        self._node = node
        self._changed = changed
        self._go = threading.Event()
        self._devices: tuple[int, ...] = ()
        self._created: Created | None = None
        task = grant.task.id
        self.label = f"{task}/{grant.attempt}"
        self._command = Command(node.clock, node.config.grace_s, self.label)
        self.folder = (
            node.config.state_dir / "nodes" / node.config.node / "attempts" / f"{task.job}-{task.index}-{grant.attempt}"
        )

    def begin(self) -> None:
        """Start preparing, in a thread of its own."""
        threading.Thread(target=self._run, name=f"attempt {self.label}", daemon=True).start()

    def go(self, devices: tuple[int, ...] = ()) -> None:
        """Its turn has come, and those GPUs are its own: the command starts as soon as everything is prepared."""
        self._devices = devices
        self.gone = True
        self._go.set()

    @property
    def running(self) -> bool:
        """Whether its command may be running now."""
        return self.phase is Phase.RUNNING and not self._command.quiet

    @property
    def saving(self) -> bool:
        """Whether what it leaves for the next attempt is being stored."""
        return self._keeping is not None and self._keeping.saving

    def stop(self, why: Stop) -> None:
        """End it for that reason, wherever it is; the first reason counts, but superseded beats all.

        Once the command has ended by itself a stop changes nothing of its outcome, however late that is known; it
        only bounds how long an engine that does not answer is waited for.
        """
        self._command.stop(why)
        self._go.set()

    def _run(self) -> None:
        try:
            self._journey()
        except Exception as error:
            log.exception("attempt %s failed inside the agent; its lease will run out: %r", self.label, error)
            self.engine_failed = True
            self._abandon()
            self._enter(Phase.SETTLING)
            self._enter(Phase.DONE)

    def _abandon(self) -> None:
        """Nothing of it goes on running or lying on this node."""
        try:
            running = self._command.running
            if running is not None:
                running.stop(0.0)
                running.remove()
            elif self._created is not None:
                self._created.discard()
        except BackendError as error:
            log.warning("what attempt %s left is removed by the next agent: %s", self.label, error)
        self._node.shipper.leave(self.grant.task.id, self.grant.attempt)

    def _journey(self) -> None:
        if self.grant.need.gpus:  # a container is made with its GPUs, and which they are is known when they are its own
            self._enter(Phase.READY)
            self._go.wait()
        if self._command.stopped is not None:
            self._released("it was given back before it was prepared")
            return
        try:
            prepared = prepare(self._node, self.grant, self.slot, self.folder, self._devices)
        except FAULTS_OF_THE_TASK as error:
            self._failed_before(Reason.INPUT, error)
            return
        except ImageUnavailable as error:
            self._failed_before(Reason.IMAGE, error)
            return
        except BackendError as error:
            self.engine_failed = True
            hint = f" ({error.hint})" if error.hint else ""
            self._released(f"it could not be prepared on {self._node.config.node}: {error.message}{hint}")
            return
        self._created, self._keeping = prepared.created, prepared.keeping
        with self._node.starting:
            parked = self._command.stopped is None and prepared.created.park(prepared.capture)
        self._enter(Phase.READY)
        self._go.wait()
        if not self._still_ours():
            prepared.capture.close()
            prepared.created.discard()
            self._released("it was given back before it started")
            return
        self._execute(prepared, nullcontext() if parked else self._node.starting)

    def _still_ours(self) -> bool:
        """Whether the command may start: asked of the queue unless the claim is fresh, so that a kill is final."""
        if self._command.stopped is not None:
            return False
        try:
            return confirm(self._node.claims, self, self._node.clock.monotonic()) and self._command.stopped is None
        except BackendError as error:
            log.warning("attempt %s does not start while the queue is away: %s", self.label, error)
            return False

    def _execute(self, prepared: Prepared, turn: AbstractContextManager[object]) -> None:
        node, spec = self._node, prepared.spec
        self._enter(Phase.RUNNING)
        log.info("attempt %s starts: %s", self.label, prepared.command[0], extra={"attempt": self.label})
        running = self._start(prepared, turn)
        if running is None:
            return
        self.started_at = node.now()
        why = self._command.run_out(running, spec.timeout_s)
        ended_at = node.now()
        self._enter(Phase.SETTLING)
        exit = self._command.exit_of(running)
        usage = running.usage()
        running.remove()
        prepared.capture.close()
        seen = Seen(exit=exit, why=why, started_at=self.started_at, ended_at=ended_at, usage=usage)
        self._settle(prepared, *judged(seen, spec.timeout_s, self.grant.need.memory))

    def _start(self, prepared: Prepared, turn: AbstractContextManager[object]) -> Running | None:
        """The command as it runs; None if it could not be started, and the attempt was given back.

        `turn` bounds how many are in the middle of their start; it costs nothing where that is behind already.
        """
        node = self._node
        try:
            node.shipper.follow(self.grant.task.id, self.grant.attempt, prepared.capture)
            with turn:
                running = prepared.created.start(prepared.capture)
        except BackendError as error:
            prepared.capture.close()
            prepared.created.discard()
            self.engine_failed = True
            self._released(f"it could not be started on {node.config.node}: {error}")
            return None
        self._command.began(running)
        return running

    def _settle(self, prepared: Prepared, verdict: Verdict, report: Report) -> None:
        """Bytes before the record that names them: publish, then hand the outcome over."""
        task, attempt = self.grant.task.id, self.grant.attempt
        if verdict.ending is Ending.RELEASED:
            self._keep(prepared, verdict)
            self._hand_over(verdict, report)
            return
        ended = Ended(
            grant=self.grant,
            spec=prepared.spec,
            command=prepared.command,
            image=prepared.image,
            staged=prepared.staged,
            work=self.folder / "work",
            capture=prepared.capture,
            node=self._node.config.node,
            verdict=verdict,
            report=report,
        )
        published = publish(self._node.outputs, ended, given_up=self._given_up)
        if published is None:
            verdict = Verdict(ending=Ending.RELEASED)
        else:
            verdict, report = published
            self._stored = verdict.reason is not Reason.OUTPUT
        log.info("attempt %s of %s ended: %s", attempt, task, verdict.message or verdict.ending)
        self._keep(prepared, verdict)
        self._hand_over(verdict, report)

    def _keep(self, prepared: Prepared, verdict: Verdict) -> None:
        """Store what the command left for the next attempt, unless there will be none or it runs elsewhere already."""
        if verdict.ending in (Ending.RELEASED, Ending.FAILED) and self._command.stopped is not Stop.SUPERSEDED:
            prepared.keeping.save(self.grant.task.id, self.grant.attempt)

    def _given_up(self) -> bool:
        """Whether storing its outputs is not worth waiting for any more."""
        return self._command.stopped is Stop.SUPERSEDED or self._node.leaving.is_set()

    def _failed_before(self, reason: Reason, error: KubeqError) -> None:
        """The command never ran, and would not on any node: a failure with the error's own words."""
        report = Report(ended_at=self._node.now(), message=error.message)
        self._hand_over(Verdict(ending=Ending.FAILED, reason=reason, message=error.message), report)

    def give_up(self) -> None:
        """Give it back although its thread is still busy preparing it (an agent that leaves waits for no download)."""
        self._released("its node left before it was prepared")

    def _released(self, why: str) -> None:
        self.trouble = why
        ending = Ending.CANCELLED if self._command.stopped is Stop.CANCELLED else Ending.RELEASED
        self._hand_over(Verdict(ending=ending, message=why), Report(ended_at=self._node.now(), message=why))

    def _hand_over(self, verdict: Verdict, report: Report) -> None:
        if self.phase is not Phase.SETTLING:
            self._enter(Phase.SETTLING)
        final = Final(grant=self.grant, ending=verdict.ending, reason=verdict.reason, report=report)
        self._node.finisher.hand_over(final, partial(self._recorded, final))

    def _recorded(self, final: Final, task: Task | None) -> None:
        """The queue has answered; clearing up is left to another thread, so that other outcomes need not wait."""
        self.recorded = True
        self.final = None if task is None else final
        if task is None:
            log.warning("attempt %s had been superseded; its outcome was not recorded", self.label)
        threading.Thread(target=self._clear, name=f"clearing {self.label}", daemon=True).start()

    def _clear(self) -> None:
        """What lies on this node of the attempt can go; its log segments once its whole output is stored."""
        writer = self._node.shipper.leave(self.grant.task.id, self.grant.attempt)
        if writer is not None and self._stored:
            try:
                writer.delete()
            except BackendError as error:
                log.warning("the log segments of %s could not be deleted: %s", self.label, error)
        if self._keeping is not None and self.final is not None and self.final.ending is Ending.SUCCEEDED:
            self._keeping.drop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._enter(Phase.DONE)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if phase is Phase.READY:
            self.ready_at = self._node.clock.monotonic()
        self._changed(self)
