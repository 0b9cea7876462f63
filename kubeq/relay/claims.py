"""The agent's half of the queue as a guest gets it: its own pool, its own attempts, its own row.

Whatever a node sends is only a wish: the task that is changed is the one in the queue, its limits are its job's, and
the clock is this machine's. Raises AccessDenied for what is not the guest's, and ValueError for what makes no sense.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kubeq.core.clock import Clock
from kubeq.core.images import is_image_id, parse_image_name
from kubeq.core.model import JobId, Node, NodeName, NodeOrder, PoolId, Task
from kubeq.core.packages import Package
from kubeq.core.spec import JobSpec
from kubeq.core.transitions import Report
from kubeq.errors import AccessDenied, UsageError
from kubeq.queue.base import Key, RecordTable
from kubeq.queue.claiming import less
from kubeq.queue.claims import Claimed, Final, Grant, Room
from kubeq.queue.granting import Granting, ending_of, stands_as
from kubeq.queue.looking import PINNED
from kubeq.queue.rows import node_of, nodes_of
from kubeq.queue.swaps import get_all
from kubeq.queue.takeover import Takeovers
from kubeq.queue.wire import End, Hold, hold_of
from kubeq.relay.admissions import Guest
from kubeq.relay.holdings import Holdings, Standing
from kubeq.relay.node_rows import checked

MOST_STARTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What `look` answers: the user's order to the node, the newest package that it is told of, and which of the named
    attempts are to be renewed at once.
    """

    order: NodeOrder | None
    packages: int
    urgent: tuple[int, ...]


class GuestClaims:
    """One guest's Claims. Safe to use from several threads; claims of one node are made one after another."""

    def __init__(
        self, table: RecordTable, clock: Clock, takeovers: Takeovers, guest: Guest, holdings: Holdings
    ) -> None:
        self._table = table
        self._clock = clock
        self._takeovers = takeovers
        self._guest = guest
        self._holdings = holdings
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._life: str | None = None
        self._granting = self._fresh()
        self._granted: dict[str, Hold] = {}

    def now(self) -> float:
        """The time that counts behind this relay."""
        return self._granting.now()

    def claim(self, life: str, holding: Sequence[Hold], room: Room) -> Claimed:
        """As `Claims.claim`, for an agent that holds those already.

        What this life of the agent was granted and does not name, it was never told of: it is granted again.
        """
        with self._turn:
            if life != self._life:
                self._life, self._granting = life, self._fresh()
                self._forget(list(self._granted))
            self._holdings.judge(holding)
            self._holdings.told = True
            again = self._untold({hold.nonce for hold in holding})
            claimed = self._granting.claim(self._guest.pool, self._guest.node, less(_bounded(room), again))
            grants = (*again, *claimed.grants)
            self._holdings.granted(grants)
            with self._lock:
                self._granted |= {hold.nonce: hold for hold in map(hold_of, grants)}
            return replace(claimed, grants=grants)

    def renew(self, holding: Sequence[Hold], started_at: Sequence[float | None]) -> Sequence[Grant | None]:
        """As `Claims.renew`."""
        now = self.now()
        standing = self._holdings.judge(holding)
        held = [
            (each.grant, None if started is None else _within(started, each.grant, now))
            for each, started in zip(standing, started_at, strict=True)
            if each.grant is not None
        ]
        renewed = iter(self._granting.renew([grant for grant, _ in held], [started for _, started in held]))
        return [next(renewed) if each.grant is not None else None for each in standing]

    def finish(self, ends: Sequence[End], places: Callable[[], frozenset[NodeName]]) -> Sequence[Task | None]:
        """As `Claims.finish`; also for attempts of the nodes that `places` answers: the dead of the guest's machine."""
        holds = [end.hold for end in ends]
        try:
            standing = self._holdings.judge(holds)
        except AccessDenied:
            standing = self._holdings.judge(holds, places())
        finals = [
            Final(grant=each.grant, ending=end.ending, reason=end.reason, report=self._sane(end.report, each.grant))
            for each, end in zip(standing, ends, strict=True)
            if each.grant is not None
        ]
        recorded = iter(self._granting.finish(finals))
        answers = [
            next(recorded) if each.grant is not None else _recorded_before(each, end)
            for each, end in zip(standing, ends, strict=True)
        ]
        self._holdings.ended(holds)
        self._forget([hold.nonce for hold in holds])
        return answers

    def look(self, holding: Sequence[Hold]) -> Seen:
        """As `Claims.look`; attempts are named by their places in `holding`."""
        standing = self._holdings.judge(holding)
        self._holdings.told = True
        row = get_all(self._table, [Key(nodes_of(self._guest.pool), self._guest.node)])[0]
        urgent = [
            place
            for place, each in enumerate(standing)
            if each.grant is None or each.grant.task.cancel_asked != each.hold.cancel_asked
        ]
        own = None if row is None else node_of(row)
        return Seen(
            order=None if own is None else own.order, packages=0 if own is None else own.packages, urgent=tuple(urgent)
        )

    def report(self, node: Node) -> Node:
        """As `Claims.report`; the row is the guest's, whatever name stands in it."""
        return self._granting.report(self._row(checked(node)))

    def pin(self, job: JobId, name: str, value: str, spec: Callable[[JobId], JobSpec | None]) -> str:
        """As `Claims.pin`, for the image of a job of which the guest holds an attempt and which has none pinned.

        `spec` answers what the job asks for, None where the guest holds nothing of it.
        """
        asked = spec(job)
        if asked is None:
            raise AccessDenied(f"node {self._guest.node} holds nothing of job {job[:100]}, so it pins nothing there")
        if name != PINNED or asked.image is None or asked.image_digest is not None:
            raise AccessDenied(f"job {job[:100]} has nothing of that name to pin")
        _check_pinned(value, asked.image)
        return self._granting.pin(job, name, value)

    def peers(self) -> Sequence[Node]:
        """As `Claims.peers`."""
        return self._granting.peers(self._guest.pool)

    def packages(self) -> Sequence[Package]:
        """As `Claims.packages`."""
        return self._granting.packages(self._guest.pool)

    def check_self(self, pool: PoolId, node: NodeName) -> None:
        """Raises AccessDenied unless those are the guest's own names: then its token is another node's."""
        if (pool, node) != (self._guest.pool, self._guest.node):
            raise AccessDenied(
                f"this token is node {self._guest.node}'s of pool {self._guest.pool}, and no other's",
                hint="start the agent with the command that its token came with",
            )

    def _fresh(self) -> Granting:
        return Granting(self._table, self._clock, self._takeovers)

    def _untold(self, named: set[str]) -> list[Grant]:
        """Attempts that were granted in an answer that got lost, with a whole term before them."""
        with self._lock:
            lost = [hold for nonce, hold in self._granted.items() if nonce not in named]
        standing = self._holdings.judge(lost)
        grants = [each.grant for each in standing if each.grant is not None]
        renewed = self._granting.renew(grants, [None] * len(grants))
        self._forget([each.hold.nonce for each in standing if each.grant is None])
        return [grant for grant in renewed if grant is not None]

    def _forget(self, nonces: Sequence[str]) -> None:
        with self._lock:
            for nonce in nonces:
                self._granted.pop(nonce, None)

    def _sane(self, report: Report, grant: Grant) -> Report:
        now = self.now()
        started = None if report.started_at is None else _within(report.started_at, grant, now)
        return replace(report, ended_at=_within(report.ended_at, grant, now), started_at=started)

    def _row(self, node: Node) -> Node:
        """The guest's own row, with what this machine knows better."""
        guest, now = self._guest, self.now()
        return replace(
            node,
            name=guest.node,
            pool=guest.pool,
            number=guest.number,
            provider=guest.provider,
            order=None,
            packages=0,
            seen_at=now,
            requested_at=min(node.requested_at, now),
            started_at=None if node.started_at is None else min(node.started_at, now),
            ended_at=None if node.ended_at is None else min(node.ended_at, now),
        )


def _bounded(room: Room) -> Room:
    return replace(room, starts=min(room.starts, MOST_STARTS), ahead=min(room.ahead, MOST_STARTS))


def _within(at: float, grant: Grant, now: float) -> float:
    """A time of an attempt's life: not before its claim and not in the future."""
    assert grant.task.current is not None, "a grant has an attempt"
    return max(grant.task.current.claimed_at, min(at, now))


def _recorded_before(standing: Standing, end: End) -> Task | None:
    """The task if it was that very end, its answer lost, that was recorded; None if the attempt is superseded."""
    ended = None if standing.task is None else ending_of(standing.task, end.hold.nonce)
    return standing.task if ended is not None and stands_as(end.ending, ended) else None


def _check_pinned(value: str, asked: str) -> None:
    """Raises AccessDenied unless the value pins the image that the job asks for, or is an image's own id."""
    try:
        if is_image_id(value):
            return
        pinned = parse_image_name(value)
        if pinned.digest is not None and pinned.repository == parse_image_name(asked).repository:
            return
    except UsageError as error:
        raise AccessDenied(f"an image cannot be pinned to that: {error.message}") from error
    raise AccessDenied(f"the image {asked} cannot be pinned to {value}: that is another image, or has no digest")
