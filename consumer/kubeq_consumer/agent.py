"""The agent: claims while there is room, lets attempts go when they fit, leaves when there is nothing left to do."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import kubeq
from kubeq.core.clock import Clock
from kubeq.core.model import GoneReason, NodeOrder, NodeState
from kubeq.core.model import Node as NodeRecord
from kubeq.core.outcome import Stop
from kubeq.core.resources import Resources, fits
from kubeq.errors import BackendError
from kubeq.queue.claims import Claims, Grant
from kubeq_consumer.attempt import Attempt, Phase
from kubeq_consumer.lease import Renewer
from kubeq_consumer.ledger import Ledger
from kubeq_consumer.neighbours import SILENT_S, Neighbours
from kubeq_consumer.preparing import Node
from kubeq_consumer.settings import AgentConfig
from kubeq_consumer.slots import free_slot, own_share, room_for, waiting

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 30.0
BREATH_S = 0.02
"""The least time between two looks at a queue that keeps changing."""
FIRST_JOB_S = 10.0
"""How long the agent of a private pool waits for its job, which is there before it unless somebody has killed it."""
DELIVERY_PATIENCE_S = 15.0
"""How long a leaving agent waits for the queue to take its last outcomes; the spool keeps them after that."""


class Agent:
    """One agent on one machine. `run` is called once."""

    def __init__(self, node: Node, claims: Claims, ledger: Ledger, total: Resources) -> None:
        self._node = node
        self._config: AgentConfig = node.config
        self._clock: Clock = node.clock
        self._claims = claims
        self._ledger = ledger
        self._total = total
        self._attempts: dict[str, Attempt] = {}
        self._news = threading.Condition()
        self._hungry = True
        self._leaving: GoneReason | None = None
        self._had_jobs = False
        self._open_jobs = 0
        self._neighbours = Neighbours(node.config, claims, node.now)
        self._ready = False
        self._waited_since: float | None = None
        self._housekeep: Callable[[], None] = lambda: None
        self._short = False
        self._note: str | None = None
        self._pause = 0.0
        self._claim_again_at = 0.0
        self._started_at = node.now()
        self._busy_at = node.clock.monotonic()
        self._ended = threading.Event()
        self._renewer = Renewer(claims, node.clock, held=self._held, describe=self.describe, ordered=self._ordered)

    def run(self, housekeep: Callable[[], None]) -> GoneReason:
        """Work until there is a reason to leave; answers with it. `housekeep` is called now and then."""
        self._housekeep = housekeep
        log.info("node %s of pool %s starts with %s", self._config.node, self._config.pool, self._total)
        for part in (self._renewer, self._node.finisher, self._node.shipper):
            part.start()
        if not self._get_ready():
            return self._leave(self._leaving or GoneReason.SETUP)
        threading.Thread(target=self._watch, name="watcher", daemon=True).start()
        while self._leaving is None or (self._attempts and not self._out_of_patience()):
            self._turn()
        self._ended.set()
        return self._leave(self._leaving)

    def ask_to_leave(self, reason: GoneReason, *, release: bool) -> None:
        """Claim no more and leave; with `release`, what runs is stopped and given back. May be called from a signal."""
        threading.Thread(target=self._begin_leaving, args=(reason, release), daemon=True).start()

    def describe(self) -> NodeRecord:
        """The node's own row as it should read now."""
        with self._news:
            running = tuple(
                attempt.grant.task.id for attempt in self._attempts.values() if attempt.phase is Phase.RUNNING
            )
            leaving, note = self._leaving, self._note
            working = NodeState.ACTIVE if self._ready else NodeState.STARTING
        return NodeRecord(
            name=self._config.node,
            pool=self._config.pool,
            number=self._config.number,
            provider=self._config.provider,
            state=working if leaving is None else NodeState.DRAINING,
            host=socket.gethostname(),
            pid=os.getpid(),
            address=self._config.address,
            total=self._total,
            tasks=running,
            requested_at=self._started_at,
            started_at=self._started_at,
            seen_at=self._node.now(),
            note=note,
            version=kubeq.__version__,
        )

    def _get_ready(self) -> bool:
        """Whether the node is what its pool asks for; a node that is not claims nothing and leaves, saying why."""
        why = self._node.outfitter.put_on(stopped=lambda: self._leaving is not None)
        if why is not None:
            log.error("node %s is not ready for attempts: %s", self._config.node, why)
        with self._news:
            self._ready = why is None
            self._note = why
        self._busy_at = self._clock.monotonic()
        return self._ready

    def _turn(self) -> None:
        """Let go what fits, claim what there is room for, then wait for news."""
        self._let_go()
        if self._neighbours.look(self._clock.monotonic()):
            self._housekeep()
        claimed = self._claim()
        if self._leaving is None and not self._attempts and self._time_to_leave() and self._settled_to_leave():
            return
        with self._news:
            if not claimed and not self._hungry:
                self._news.wait(self._config.poll_s)

    def _let_go(self) -> None:
        """Start prepared attempts that fit what the machine's ledger leaves; give back what waited too long."""
        for attempt in waiting(self._snapshot()):
            if attempt.phase is not Phase.READY:
                continue
            if self._reserve(attempt):
                attempt.go()
            elif self._clock.monotonic() - (attempt.ready_at or 0.0) > attempt.grant.job.policy.lease_s / 3:
                attempt.stop(Stop.RELEASED)

    def _reserve(self, attempt: Attempt) -> bool:
        """Whether it may start now: within this agent's own limit and what the machine has left."""
        need = attempt.grant.need
        if not fits(need, own_share(self._snapshot(), self._total, self._total)):
            return False
        try:
            return self._ledger.reserve(attempt.label, need)
        except BackendError as error:
            self._back_off(error.message)
            return False

    def _claim(self) -> bool:
        """Whether anything was claimed."""
        if self._leaving is not None or not self._hungry or self._clock.monotonic() < self._claim_again_at:
            self._hungry = False
            return False
        self._hungry = False
        return self._ask()

    def _ask(self) -> bool:
        """Claim what there is room for; whether anything was claimed."""
        attempts = self._snapshot()
        try:
            free = own_share(attempts, self._total, self._ledger.free())
            room = room_for(attempts, free, self._total, self._neighbours.count, ahead=self._short)
            claimed = self._claims.claim(self._config.pool, self._config.node, room)
        except BackendError as error:
            self._back_off(f"nothing can be claimed: {error.message}")
            return False
        self._open_jobs = claimed.open_jobs
        self._had_jobs = self._had_jobs or claimed.open_jobs > 0
        if claimed.too_big:
            self._note = f"task {claimed.too_big[0]} asks for more than this node has ({self._total})"
        for grant in claimed.grants:
            self._take_on(grant)
        return bool(claimed.grants)

    def _take_on(self, grant: Grant) -> None:
        with self._news:
            attempt = Attempt(self._node, grant, free_slot(self._attempts.values()), self._changed)
            self._attempts[attempt.label] = attempt
            leaving = self._leaving is not None
        if leaving:
            attempt.stop(Stop.RELEASED)  # it was claimed while the order to leave came
        attempt.begin()

    def _changed(self, attempt: Attempt) -> None:
        """News of an attempt, on its own thread."""
        if attempt.phase is Phase.SETTLING:
            self._give_back(attempt)
            if attempt.engine_failed:
                self._back_off(attempt.trouble or "attempts cannot be started here; see the agent's log")
            elif attempt.started_at is not None:
                self._pause, self._note = 0.0, None
                self._short = self._node.now() - attempt.started_at < attempt.grant.job.policy.lease_s / 6
        with self._news:
            if attempt.phase is Phase.DONE:
                self._attempts.pop(attempt.label, None)
                self._busy_at = self._clock.monotonic()
            self._hungry = True
            self._news.notify_all()

    def _give_back(self, attempt: Attempt) -> None:
        try:
            self._ledger.release(attempt.label)
        except BackendError as error:
            log.warning("%s; the next write of this agent gives it back", error)

    def _back_off(self, why: str) -> None:
        """Claim nothing for a while, longer each time; what runs goes on."""
        self._pause = min(max(0.5, 2 * self._pause), LONGEST_PAUSE_S)
        self._claim_again_at = self._clock.monotonic() + random.uniform(self._pause / 2, self._pause)
        self._note = why
        log.warning("%s; the next claim is tried in %.1f s", why, self._pause)

    def _watch(self) -> None:
        """Wake the loop when the queue may have changed, and once a poll anyway."""
        while not self._ended.wait(BREATH_S):
            try:
                self._claims.wait(self._config.poll_s)
            except BackendError:
                self._ended.wait(self._config.poll_s)
            with self._news:
                self._hungry = True
                self._news.notify_all()

    def _time_to_leave(self) -> bool:
        """Whether there has been nothing to do for long enough.

        While jobs of the pool are open their tasks may come back, from a node that died or a back-off: the first node
        stays for them, and the others until it is certain that the first is alive.
        """
        idle = self._clock.monotonic() - self._busy_at
        if self._config.until_idle:
            return self._open_jobs == 0 and (self._had_jobs or idle >= FIRST_JOB_S)
        if self._open_jobs:
            certain_s = SILENT_S + self._neighbours.asked_every_s
            return not self._neighbours.first and idle >= max(self._config.linger_others_s, certain_s)
        return idle >= (self._config.linger_s if self._neighbours.first else self._config.linger_others_s)

    def _out_of_patience(self) -> bool:
        """Whether a leaving agent has waited long enough for outcomes to be delivered: the spool keeps them."""
        if not self._node.leaving.is_set():
            return False
        if any(attempt.phase is Phase.RUNNING for attempt in self._snapshot()):
            self._waited_since = None
            return False
        now = self._clock.monotonic()
        if self._waited_since is None:
            self._waited_since = now
        return now - self._waited_since > DELIVERY_PATIENCE_S

    def _settled_to_leave(self) -> bool:
        """Leave for want of work, unless work came just now.

        The row says that this node leaves before the queue is asked a last time. A submitter seals its job first and
        counts nodes afterwards, so either it sees a node that leaves, or this node sees its job.
        """
        self._leaving = GoneReason.IDLE
        try:
            self._claims.report(self.describe())
        except BackendError as error:
            log.warning("it is not known that node %s leaves: %s", self._config.node, error)
        if not self._ask():
            return True
        with self._news:
            if self._leaving is GoneReason.IDLE:
                self._leaving = None
        return False

    def _ordered(self, order: NodeOrder) -> None:
        self._begin_leaving(GoneReason.DRAINED, order is NodeOrder.RELEASE)

    def _begin_leaving(self, reason: GoneReason, release: bool) -> None:
        with self._news:
            if self._leaving in (None, GoneReason.IDLE):
                log.info("node %s leaves: %s", self._config.node, reason)
                self._leaving = reason
            self._news.notify_all()
        if release:
            self._node.leaving.set()
        for attempt in self._snapshot():
            if release or attempt in waiting([attempt]):
                attempt.stop(Stop.RELEASED)

    def _leave(self, reason: GoneReason | None) -> GoneReason:
        reason = reason or GoneReason.IDLE
        for attempt in waiting(self._snapshot()):
            attempt.give_up()
        if not self._node.finisher.stop(DELIVERY_PATIENCE_S):
            log.warning("some outcomes could not be delivered; the next agent of this pool on this machine will")
        self._note = self._node.outfitter.take_off() or self._note
        self._renewer.stop()
        self._node.shipper.stop()
        gone = replace(self.describe(), state=NodeState.GONE, gone=reason, ended_at=self._node.now(), tasks=())
        try:
            self._claims.report(gone)
        except BackendError as error:
            log.warning("the end of node %s could not be reported: %s", self._config.node, error)
        log.info("node %s has left: %s", self._config.node, reason)
        return reason

    def _held(self) -> list[Attempt]:
        """Everything that must be renewed: all whose outcome the queue has not recorded yet."""
        return [attempt for attempt in self._snapshot() if attempt.phase is not Phase.DONE and not attempt.recorded]

    def _snapshot(self) -> list[Attempt]:
        with self._news:
            return list(self._attempts.values())
