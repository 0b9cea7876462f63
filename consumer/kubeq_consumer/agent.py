"""The agent: claims while there is room, lets attempts go when they fit, leaves when there is nothing left to do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from kubeq.core.clock import Clock
from kubeq.core.model import GoneReason, NodeOrder, NodeState
from kubeq.core.model import Node as NodeRecord
from kubeq.core.outcome import Stop
from kubeq.core.resources import Resources
from kubeq.errors import BackendError
from kubeq.queue.claims import Claims, Grant
from kubeq_consumer.attempt import Attempt, Phase
from kubeq_consumer.intake import Intake
from kubeq_consumer.lease import Renewer
from kubeq_consumer.ledger import Ledger
from kubeq_consumer.neighbours import Neighbours
from kubeq_consumer.parting import DELIVERY_PATIENCE_S, Parting
from kubeq_consumer.peers import PeerList
from kubeq_consumer.preparing import Node
from kubeq_consumer.rows import own_row
from kubeq_consumer.settings import AgentConfig
from kubeq_consumer.signs import Signs
from kubeq_consumer.slots import free_slot, waiting
from kubeq_consumer.strikes import Strikes

log = logging.getLogger(__name__)
BREATH_S = 0.02
"""The least time between two looks at a queue that keeps changing."""


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
        self._row = own_row(node.config, total, node.now())
        self._peers = PeerList(node.config.folder, self._row)
        self._neighbours = Neighbours(node.config, claims, node.now, self._peers)
        self._intake = Intake(node, claims, ledger, total, self._neighbours)
        self._parting = Parting(node.config, node.clock, self._neighbours)
        self._strikes = Strikes(node.config.node)
        self._struck: str | None = None
        self._ready = False
        self._housekeep: Callable[[], None] = lambda: None
        self._worked = False
        self._signs = Signs(node.config.run_dir, node.clock.monotonic)
        self._ended = threading.Event()
        self._renewer = Renewer(
            claims, node.clock, held=self._held, describe=self.describe, ordered=self._ordered, told=self._heard,
            silence=self._intake.silence, wake=self._wake,
        )  # fmt: skip

    def run(self, housekeep: Callable[[], None]) -> GoneReason:
        """Work until there is a reason to leave; answers with it. `housekeep` is called now and then."""
        self._housekeep = housekeep
        log.info("node %s of pool %s starts with %s", self._config.node, self._config.pool, self._total)
        self._peers.write(())
        for part in (self._renewer, self._node.finisher, self._node.shipper):
            part.start()
        if not self._get_ready():
            return self._leave(self._parting.reason or GoneReason.SETUP)
        self._node.packages.start()
        self._renewer.report()
        threading.Thread(target=self._watch, name="watcher", daemon=True).start()
        while self._parting.reason is None or (self._attempts and not self._out_of_patience()):
            self._turn()
        self._ended.set()
        return self._leave(self._parting.reason)

    def ask_to_leave(self, reason: GoneReason, *, release: bool) -> None:
        """Claim no more and leave; with `release`, what runs is stopped and given back. May be called from a signal."""
        threading.Thread(target=self._begin_leaving, args=(reason, release), daemon=True).start()

    def describe(self) -> NodeRecord:
        """The node's own row as it should read now."""
        with self._news:
            running = tuple(
                attempt.grant.task.id for attempt in self._attempts.values() if attempt.phase is Phase.RUNNING
            )
            note = self._parting.words or self._intake.note or self._node.packages.trouble
            leaving = self._parting.reason
            working = NodeState.ACTIVE if self._ready else NodeState.STARTING
        return replace(
            self._row,
            state=working if leaving is None else NodeState.DRAINING,
            tasks=running,
            seen_at=self._node.now(),
            note=note,
            worked=self._worked,
            requests=self._node.requests(),
        )

    def _get_ready(self) -> bool:
        """Whether the node is what its pool asks for; a node that is not claims nothing and leaves, saying why."""
        why = self._node.outfitter.put_on(stopped=self._is_stopped)
        if why is not None:
            log.error("node %s is not ready for attempts: %s", self._config.node, why)
        with self._news:
            self._ready, self._parting.words = why is None, why
        self._parting.was_busy()
        return self._ready

    def _is_stopped(self) -> bool:
        """Whether getting ready is to end; asked again and again as long as that lasts."""
        self._signs.alive()
        return self._parting.reason is not None

    def _has_given_up(self) -> bool:
        """Whether the queue has been silent for too long. Whoever still has to deliver something waits longer."""
        held = self._snapshot()
        if not self._intake.silence.is_final(holding=False) or any(one.running for one in held):
            return False
        holding = bool(held) or any(self._config.state_dir.glob("nodes/*/spool/*.json"))
        return self._intake.silence.is_final(holding=holding)

    def _turn(self) -> None:
        """Let go what fits, claim what there is room for, then wait for news."""
        self._signs.alive()
        self._let_go()
        if self._neighbours.look(self._clock.monotonic()):
            self._housekeep()
        if self._struck is not None and self._parting.reason is None:
            why, self._struck = self._struck, None
            self._retire(why)
        claimed = self._claim()
        if self._parting.reason is None and self._has_given_up():
            log.error("the queue has been out of reach for too long; what could not be delivered stays in the spool")
            self._begin_leaving(GoneReason.LOST, release=True)
        if self._node.packages.busy:
            self._parting.was_busy()
        if self._parting.reason is None and not self._attempts and self._parting.is_due() and self._settled_to_leave():
            return
        with self._news:
            if not claimed and not self._intake.hungry:
                self._news.wait(self._config.poll_s)

    def _let_go(self) -> None:
        """Start prepared attempts that fit what the machine's ledger leaves; give back what waited too long."""
        for attempt in waiting(self._snapshot()):
            if attempt.phase is not Phase.READY:
                continue
            if self._intake.reserve(attempt, self._snapshot()):
                attempt.go(self._ledger.devices(attempt.label))
            elif self._clock.monotonic() - (attempt.ready_at or 0.0) > attempt.grant.job.policy.lease_s / 3:
                attempt.stop(Stop.RELEASED)

    def _claim(self) -> bool:
        """Claim what there is room for, if it is time to; whether anything was claimed."""
        return self._intake.is_due() and self._parting.reason is None and self._ask()

    def _ask(self) -> bool:
        """Claim what there is room for; whether anything was claimed. Nothing is before the row says that this node has
        begun: who reads in it that the node has not may end its machine without ending an attempt.
        """
        claimed = self._intake.ask(self._snapshot()) if self._renewer.introduced else None
        if claimed is None:
            return False
        self._parting.saw_jobs(claimed.open_jobs, beyond=bool(claimed.too_big) and not claimed.grants)
        for grant in claimed.grants:
            self._take_on(grant)
        return bool(claimed.grants)

    def _take_on(self, grant: Grant) -> None:
        with self._news:
            attempt = Attempt(self._node, grant, free_slot(self._attempts.values()), self._changed)
            self._attempts[attempt.label] = attempt
            leaving = self._parting.reason is not None
        if leaving:
            attempt.stop(Stop.RELEASED)  # it was claimed while the order to leave came
        attempt.begin()

    def _changed(self, attempt: Attempt) -> None:
        """News of an attempt, on its own thread."""
        if attempt.phase is Phase.SETTLING:
            self._intake.give_back(attempt)
            if attempt.engine_failed:
                self._intake.back_off(attempt.trouble or "attempts cannot be started here; see the agent's log")
            elif attempt.started_at is not None:
                self._intake.went_well(attempt.started_at, attempt.grant.job.policy.lease_s)
                self._worked = True
        with self._news:
            if attempt.phase is Phase.DONE:
                self._attempts.pop(attempt.label, None)
                self._parting.was_busy()
                if attempt.final is not None:
                    self._struck = self._strikes.count(attempt.final) or self._struck
            self._intake.hungry = True
            self._news.notify_all()

    def _watch(self) -> None:
        """Wake the loop when the queue may have changed, and once a poll anyway."""
        while not self._ended.wait(BREATH_S):
            try:
                self._claims.wait(self._config.poll_s)
            except BackendError:
                self._ended.wait(self._config.poll_s)
            self._wake()

    def _wake(self) -> None:
        with self._news:
            self._intake.hungry = True
            self._news.notify_all()

    def _out_of_patience(self) -> bool:
        """Whether this agent, which is to give back what it has, need not wait for its outcomes any longer."""
        if not self._node.leaving.is_set():
            return False
        return self._parting.is_overdue(
            running=any(one.phase is Phase.RUNNING or one.saving for one in self._snapshot())
        )

    def _settled_to_leave(self) -> bool:
        """Leave for want of work, unless work came just now.

        The row says that this node leaves before the queue, unless the row holds an order, is asked a last time. A
        submitter seals its job first and counts nodes afterwards: it sees a node that leaves, or this node its job.
        """
        self._announce(GoneReason.IDLE)
        if self._parting.reason is not GoneReason.IDLE or not self._ask():
            return True
        self._parting.take_back(GoneReason.IDLE)
        return False

    def _retire(self, why: str) -> None:
        """Leave because tasks fail here one after another, unless nobody else is there to work.

        The row says that this node leaves before it is looked who stays, so that never all leave at once.
        """
        self._parting.words = why
        self._announce(GoneReason.STRIKES)
        if self._neighbours.alone():
            self._parting.take_back(GoneReason.STRIKES)
            self._intake.note = f"{why}; it stays, as the last node of its pool"
            log.warning("%s", self._intake.note)
            return
        log.error("node %s leaves: %s", self._config.node, why)
        for attempt in waiting(self._snapshot()):
            attempt.stop(Stop.RELEASED)

    def _announce(self, reason: GoneReason) -> None:
        """Have this node's row say that it leaves."""
        self._parting.begin(reason)
        self._renewer.report()

    def _ordered(self, order: NodeOrder) -> None:
        self._begin_leaving(GoneReason.DRAINED, order is NodeOrder.RELEASE)

    def _heard(self, packages: int) -> None:
        """The queue has taken this node's row, which says which package is the newest."""
        self._signs.registered()
        self._node.packages.told(packages)

    def _begin_leaving(self, reason: GoneReason, release: bool) -> None:
        if self._parting.begin(reason):
            log.info("node %s leaves: %s", self._config.node, reason)
        with self._news:
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
        self._node.packages.stop()
        self._parting.words = self._node.outfitter.take_off() or self._parting.words
        self._renewer.stop()
        self._node.shipper.stop()
        gone = replace(self.describe(), state=NodeState.GONE, gone=reason, ended_at=self._node.now(), tasks=())
        try:
            self._claims.report(gone)
        except BackendError as error:
            log.warning("the end of node %s could not be reported: %s", self._config.node, error)
        log.info("node %s has left: %s; requests: %s", self._config.node, reason, self._node.requests())
        return reason

    def _held(self) -> list[Attempt]:
        """Everything that must be renewed: all whose outcome the queue has not recorded yet."""
        return [attempt for attempt in self._snapshot() if attempt.phase is not Phase.DONE and not attempt.recorded]

    def _snapshot(self) -> list[Attempt]:
        with self._news:
            return list(self._attempts.values())
