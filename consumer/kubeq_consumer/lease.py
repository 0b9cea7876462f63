"""Renewing: one thread that does no bulk work keeps the leases of everything the agent holds.

It tells an attempt that it has been superseded or is to be cancelled, and nothing else stops a command from here; an
exclusive attempt is also stopped when its own lease is about to end by the monotonic clock. The node's own row is
written from here too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from kubeq.core.clock import Clock
from kubeq.core.model import Node, NodeOrder, NodeState, Reach
from kubeq.core.outcome import Stop
from kubeq.errors import BackendError
from kubeq.queue.claims import Claims, Grant
from kubeq_consumer.silence import Silence

log = logging.getLogger(__name__)
LOOK_S = 0.5
"""How often an agent looks at its own rows on a table of this machine (a read that costs nobody anything)."""
REPORT_S = 60.0
EXCLUSIVE_SHARE = 0.7
"""Of its term, after which an exclusive attempt that could not be renewed is stopped: the rest is for TERM and KILL."""
FRESH_S = 1.0
"""A claim or renewal younger than this needs no other one before the command starts."""
TELL_S = 1.0
"""How soon what runs is told on a table of this machine; a task shorter than this never costs a write for it."""


class Held(Protocol):
    """An attempt, as far as its lease is concerned."""

    lock: threading.Lock
    """Held while the grant is renewed, so that two renewals never race on one row version."""
    grant: Grant
    renewed_at: float
    """Monotonic time of the last answered claim or renewal."""
    started_at: float | None

    @property
    def running(self) -> bool:
        """Whether its command may be running now."""
        ...

    def stop(self, why: Stop) -> None: ...


def confirm(claims: Claims, one: Held, monotonic: float) -> bool:
    """Whether the attempt is still the queue's, and not to be cancelled; if not it has been told to stop.

    A claim or renewal that is fresh enough is believed; else the lease is renewed. Raises BackendError.
    """
    if monotonic - one.renewed_at < FRESH_S:
        return True
    with one.lock:
        answer = claims.renew([one.grant], [None])[0]
        if answer is None:
            one.stop(Stop.SUPERSEDED)
            return False
        one.grant, one.renewed_at = answer, monotonic
    if answer.task.cancel_asked:
        one.stop(Stop.CANCELLED)
        return False
    return True


class Renewer:
    """Renews what `held` answers, reports what `describe` answers, and hands on the user's orders, and which package
    the node's row says is the newest.

    Until the queue has taken the row of a node that has begun, nothing is claimed, and `silence` is of the reports;
    then `wake` is called, once, and what claims are answered counts alone.
    """

    def __init__(
        self,
        claims: Claims,
        clock: Clock,
        *,
        held: Callable[[], Sequence[Held]],
        describe: Callable[[], Node],
        ordered: Callable[[NodeOrder], None],
        told: Callable[[int], None],
        silence: Silence,
        wake: Callable[[], None],
    ) -> None:
        self._claims = claims
        self._clock = clock
        self._held = held
        self._describe = describe
        self._ordered = ordered
        self._told = told
        self._silence = silence
        self._wake = wake
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewer", daemon=True)
        self._guard = threading.Thread(target=self._guard_exclusive, name="exclusive guard", daemon=True)
        self._reporting = threading.Lock()
        self._reported_at = float("-inf")
        self._last: Node | None = None
        self.introduced = False
        """Whether the queue has taken a row that says that this node has begun; orders it held have been handed on."""
        self._looked_at = float("-inf")

    def start(self) -> None:
        self._thread.start()
        self._guard.start()

    def stop(self) -> None:
        """End the thread; nothing is renewed any more."""
        self._stop.set()
        self._thread.join(10)

    def report(self) -> None:
        """Have the node's row say at once what it is, and hand on orders that it holds; if the queue is away the thread
        does so later.
        """
        try:
            self._report(self._clock.monotonic())
        except BackendError as error:
            log.warning("the queue does not know yet what becomes of this node: %s", error)

    def _run(self) -> None:
        told, told_at = "", 0.0
        while not self._stop.wait(LOOK_S / 2):
            try:
                self._tick()
                told = ""
            except BackendError as error:
                now = self._clock.monotonic()
                if error.message != told or now - told_at >= REPORT_S:  # a queue may be away for a day
                    told, told_at = error.message, now
                    log.warning("leases could not be renewed; what runs goes on: %s", error)
                self._stop.wait(LOOK_S)

    def _tick(self) -> None:
        now = self._clock.monotonic()
        held = self._held()
        urgent = self._look(held, now)
        self.renew([one for one in held if one in urgent or self._is_due(one, now)])
        self._report(now)

    def _is_due(self, one: Held, now: float) -> bool:
        """Whether it is time: once a third of a term; where asking is free, also to make its start known."""
        age = now - one.renewed_at
        if age >= one.grant.job.policy.lease_s / 3:
            return True
        current = one.grant.task.current
        untold = one.started_at is not None and current is not None and current.started_at is None
        return untold and self._claims.reach is Reach.HOST and age > TELL_S

    def renew(self, held: Sequence[Held]) -> None:
        """Renew those now; an attempt that is about to be finished is passed over."""
        ready = [one for one in held if one.lock.acquire(blocking=False)]
        try:
            if not ready:
                return
            asked_at = self._clock.monotonic()
            answers = self._claims.renew([one.grant for one in ready], [one.started_at for one in ready])
            for one, answer in zip(ready, answers, strict=True):
                if answer is None:
                    one.stop(Stop.SUPERSEDED)
                    continue
                one.grant, one.renewed_at = answer, asked_at
                if answer.task.cancel_asked:
                    one.stop(Stop.CANCELLED)
        finally:
            for one in ready:
                one.lock.release()

    def _look(self, held: Sequence[Held], now: float) -> list[Held]:
        """Attempts whose rows somebody else has changed; asked often only where asking costs nothing."""
        if self._claims.reach is not Reach.HOST or now - self._looked_at < LOOK_S:
            return []
        self._looked_at = now
        grants = [one.grant for one in held]
        seen = self._claims.look(self._describe(), grants)
        if seen.order is not None:
            self._ordered(seen.order)
        if seen.packages:
            self._told(seen.packages)
        return [one for one, grant in zip(held, grants, strict=True) if grant in seen.urgent]

    def _report(self, now: float) -> None:
        with self._reporting:
            try:
                self._report_news(now)
            except BackendError as error:
                if not self.introduced:
                    self._silence.go_on(error)
                raise

    def _report_news(self, now: float) -> None:
        node = self._describe()
        age = now - self._reported_at
        changed = self._last is None or (self._last.state, self._last.note) != (node.state, node.note)
        other_tasks = self._last is not None and self._last.tasks != node.tasks and self._claims.reach is Reach.HOST
        if not changed and age < REPORT_S and not (other_tasks and age > TELL_S):
            return
        written = self._claims.report(node)
        self._reported_at, self._last = now, node
        self._told(written.packages)
        if written.order is not None:
            self._ordered(written.order)
        if not self.introduced:
            self._silence.end()
            self._introduce(node)

    def _introduce(self, node: Node) -> None:
        """The queue has taken that row; if it says that the node has begun, there may be claims from now on."""
        if node.state is not NodeState.STARTING:
            self.introduced = True
            self._wake()

    def _guard_exclusive(self) -> None:
        """Stop exclusive commands whose lease is about to end, from a thread that no request can hold up."""
        while not self._stop.wait(LOOK_S):
            now = self._clock.monotonic()
            for one in self._held():
                policy = one.grant.job.policy
                if policy.exclusive and one.running and now - one.renewed_at > policy.lease_s * EXCLUSIVE_SHARE:
                    one.stop(Stop.SUPERSEDED)
