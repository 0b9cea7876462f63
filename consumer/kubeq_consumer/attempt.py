"""One attempt's way through the node: prepare, wait for its turn, run, stage out, hand over. One thread an attempt.

Everything that decides an outcome is here; how a command runs is the runtime's, when it may start is the agent's.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from enum import Enum, auto

from kubeq.core.model import Ending, Exit, Reason, Task
from kubeq.core.outcome import Stop, Verdict, judge
from kubeq.core.transitions import Report
from kubeq.errors import (
    BackendError,
    ImageUnavailable,
    IntegrityError,
    KubeqError,
    ObjectNotFound,
    UsageError,
    VersionMismatch,
)
from kubeq.queue.claims import Final, Grant
from kubeq_consumer.preparing import Node, Prepared, prepare
from kubeq_consumer.publishing import Ended, publish
from kubeq_consumer.runtimes.base import Created, Running

log = logging.getLogger(__name__)
FRESH_S = 1.0
"""A claim or renewal younger than this needs no other one before the command starts."""


class Phase(Enum):
    PREPARING = auto()
    READY = auto()
    RUNNING = auto()
    SETTLING = auto()
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
        self.gone = False
        self.handed_over = False
        self._node = node
        self._changed = changed
        self._go = threading.Event()
        self._stop: Stop | None = None
        self._created: Created | None = None
        self._running: Running | None = None
        self._stop_lock = threading.Lock()
        task = grant.task.id
        self.label = f"{task}/{grant.attempt}"
        self.folder = (
            node.config.state_dir / "nodes" / node.config.node / "attempts" / f"{task.job}-{task.index}-{grant.attempt}"
        )

    def begin(self) -> None:
        """Start preparing, in a thread of its own."""
        threading.Thread(target=self._run, name=f"attempt {self.label}", daemon=True).start()

    def go(self) -> None:
        """Its turn has come: the command starts as soon as everything is prepared."""
        self.gone = True
        self._go.set()

    def stop(self, why: Stop) -> None:
        """End it for that reason, wherever it is; the first reason counts, but superseded beats all."""
        with self._stop_lock:
            if self._stop is None or why is Stop.SUPERSEDED:
                self._stop = why
            running = self._running
        self._go.set()
        if running is not None:
            running.stop(self._node.config.grace_s)

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
            if self._running is not None:
                self._running.stop(0.0)
                self._running.remove()
            elif self._created is not None:
                self._created.discard()
        except BackendError as error:
            log.warning("what attempt %s left is removed by the next agent: %s", self.label, error)
        self._node.shipper.leave(self.grant.task.id, self.grant.attempt)

    def _journey(self) -> None:
        try:
            prepared = prepare(self._node, self.grant, self.slot, self.folder)
        except (ObjectNotFound, IntegrityError, VersionMismatch, UsageError) as error:
            self._failed_before(Reason.INPUT, error)
            return
        except ImageUnavailable as error:
            self._failed_before(Reason.IMAGE, error)
            return
        except BackendError as error:
            if not error.transient:
                self._failed_before(Reason.INPUT, error)
                return
            self.engine_failed = True
            self._released(f"it could not be prepared on {self._node.config.node}: {error.message}")
            return
        self._created = prepared.created
        self._enter(Phase.READY)
        self._go.wait()
        if not self._still_ours():
            prepared.created.discard()
            self._released("it was given back before it started")
            return
        self._execute(prepared)

    def _still_ours(self) -> bool:
        """Whether the command may start: asked of the queue unless the claim is fresh, so that a kill is final."""
        if self._stop is not None:
            return False
        monotonic = self._node.clock.monotonic()
        if monotonic - self.renewed_at < FRESH_S:
            return True
        with self.lock:
            answer = self._node.claims.renew([self.grant], [self._node.now()])[0]
            if answer is None:
                self.stop(Stop.SUPERSEDED)
                return False
            self.grant, self.renewed_at = answer, monotonic
        if answer.task.cancel_asked:
            self.stop(Stop.CANCELLED)
        return self._stop is None

    def _execute(self, prepared: Prepared) -> None:
        node, spec = self._node, prepared.spec
        self.started_at = node.now()
        began = node.clock.monotonic()
        self._enter(Phase.RUNNING)
        log.info("attempt %s starts: %s", self.label, prepared.command[0])
        prepared.capture.open()
        node.shipper.follow(self.grant.task.id, self.grant.attempt, prepared.capture)
        try:
            with node.starting:
                running = prepared.created.start(prepared.capture)
        except BackendError as error:
            prepared.capture.close()
            prepared.created.discard()
            self.engine_failed = True
            self._released(f"it could not be started on {node.config.node}: {error.message}")
            return
        with self._stop_lock:
            self._running = running
            stopped = self._stop is not None
        if stopped:
            running.stop(node.config.grace_s)
        exit = self._wait(running, spec.timeout_s, began)
        ended_at = node.now()
        usage = running.usage()
        self._enter(Phase.SETTLING)
        running.remove()
        prepared.capture.close()
        verdict = judge(
            exit, self._stop, timeout_s=spec.timeout_s, memory=self.grant.need.memory, peak=usage.peak_memory_bytes
        )
        report = Report(
            started_at=self.started_at,
            ended_at=max(ended_at, self.started_at),
            exit=exit,
            usage=usage,
            message=verdict.message,
        )
        self._settle(prepared, verdict, report)

    def _wait(self, running: Running, timeout_s: float | None, began: float) -> Exit:
        """How the command ended; its time limit is kept here, by the monotonic clock."""
        while True:
            left = 3600.0 if timeout_s is None else began + timeout_s - self._node.clock.monotonic()
            exit = running.wait(max(left, 0.0) if self._stop is None else 3600.0)
            if exit is not None:
                return exit
            if timeout_s is not None and self._node.clock.monotonic() - began >= timeout_s:
                self.stop(Stop.TIME_LIMIT)

    def _settle(self, prepared: Prepared, verdict: Verdict, report: Report) -> None:
        """Bytes before the record that names them: publish, then hand the outcome over."""
        task, attempt = self.grant.task.id, self.grant.attempt
        if verdict.ending is Ending.RELEASED:
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
        published = publish(self._node.outputs, ended, given_up=lambda: self._stop is Stop.SUPERSEDED)
        if published is None:
            verdict = Verdict(ending=Ending.RELEASED)
        else:
            verdict, report = published
        log.info("attempt %s of %s ended: %s", attempt, task, verdict.message or verdict.ending)
        self._hand_over(verdict, report)

    def _failed_before(self, reason: Reason, error: KubeqError) -> None:
        """The command never ran, and would not on any node: a failure with the error's own words."""
        report = Report(ended_at=self._node.now(), message=error.message)
        self._hand_over(Verdict(ending=Ending.FAILED, reason=reason, message=error.message), report)

    def _released(self, why: str) -> None:
        ending = Ending.CANCELLED if self._stop is Stop.CANCELLED else Ending.RELEASED
        self._hand_over(Verdict(ending=ending, message=why), Report(ended_at=self._node.now(), message=why))

    def _hand_over(self, verdict: Verdict, report: Report) -> None:
        if self.phase is not Phase.SETTLING:
            self._enter(Phase.SETTLING)
        self.handed_over = True
        final = Final(grant=self.grant, ending=verdict.ending, reason=verdict.reason, report=report)
        self._node.finisher.hand_over(final, self._recorded)

    def _recorded(self, task: Task | None) -> None:
        """The queue has answered: what lies on this node of the attempt can go."""
        if task is None:
            log.warning("attempt %s had been superseded; its outcome was not recorded", self.label)
        writer = self._node.shipper.leave(self.grant.task.id, self.grant.attempt)
        if writer is not None:
            try:
                writer.delete()
            except BackendError as error:
                log.warning("the log segments of %s could not be deleted: %s", self.label, error)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._enter(Phase.DONE)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if phase is Phase.READY:
            self.ready_at = self._node.clock.monotonic()
        self._changed(self)
