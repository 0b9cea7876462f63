"""Waiting for a job: a tick whenever something changed, until everything in it has ended. Starts and stops nothing.

Whoever looks may make the swaps that nobody else can be relied on for: expired leases of a paused or killed job, claims
of agents that died on this machine, and the job's own gate once nothing is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kubeq.actions.disowning import disown_gone
from kubeq.actions.launching import Nodes
from kubeq.actions.lookout import Lookout
from kubeq.actions.outages import Asked, Outage
from kubeq.actions.relaying import sweep
from kubeq.actions.session import Session
from kubeq.core.model import UNFINISHED, Job, JobStatus, NodeName, Reach, TaskState
from kubeq.core.transitions import job_status
from kubeq.errors import BackendError
from kubeq.queue.rows import Outcome

LONGEST_WAIT_S = {Reach.HOST: 0.25, Reach.NETWORK: 1.0}
"""How long to wait where nothing changes; a table on this machine wakes us within a hundredth of a second anyway."""
SHORTEST_WAIT_S = 0.01
"""Between two counts, so that a job whose tasks end by the thousand is not counted for each of them."""
COUNTING_SHARE = 5
"""A count of a huge job takes a while: no more than this fraction of the time goes into counting."""
ROWS_A_SECOND = 10_000
"""So many rows of a table on the network are counted a second at most: in DynamoDB each is read, and paid for, anew.
A million tasks are counted every 100 s, for at most 0.3 dollars an hour; the end is seen by the job's own row."""
LOOK_AROUND_S = 0.5
"""Between two looks at the job's own row and at its nodes."""

Tend = Callable[[Job, Mapping[Outcome, int], Nodes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A job as it stands now. `elapsed_s` counts from the beginning of the waiting; `ended` is true in the last one."""

    job: Job
    outcomes: Mapping[Outcome, int]
    nodes: Nodes
    elapsed_s: float
    ended: bool = False
    outages: tuple[Outage, ...] = ()
    """What did not answer."""
    stale: bool = False
    """It was the queue: all is as it was seen last."""

    @property
    def tasks(self) -> dict[TaskState, int]:
        """How many tasks are in each state; every state is there."""
        counts = dict.fromkeys(TaskState, 0)
        for outcome, count in self.outcomes.items():
            counts[outcome.state] += count
        return counts

    @property
    def finished(self) -> int:
        """How many tasks have ended, one way or another."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.state not in UNFINISHED)

    @property
    def status(self) -> JobStatus:
        return job_status(self.job, self.tasks)


def follow(session: Session, job: Job, *, tend: Tend | None = None) -> Iterator[Tick]:
    """A tick at once, then one for every change of the counts and every half second, and a last one at the end.

    A queue that answers no more once it has is waited for: its ticks say so, and what runs on nodes goes on.
    `tend` is called whenever the nodes were looked at while there is work left, and told what was seen of them; what it
    raises ends the waiting. Raises NotFound when the job is removed meanwhile.
    """
    with Lookout(session, job.pool) as lookout:
        yield from _follow(session, job, lookout, tend)


def _follow(session: Session, job: Job, lookout: Lookout, tend: Tend | None) -> Iterator[Tick]:
    seen = _Seen(session, job, lookout)
    before: Mapping[Outcome, int] | None = None
    while True:
        around = seen.ask(patient=before is not None)
        if seen.ended:
            break
        if around and not seen.silent and tend is not None and lookout.is_fresh:
            tend(seen.job, seen.outcomes, seen.nodes)
            lookout.acted()
        if around or seen.outcomes != before:
            before = seen.outcomes
            yield seen.tick()
        time.sleep(min(max(SHORTEST_WAIT_S, seen.count_at - session.clock.monotonic()), LOOK_AROUND_S))
        seen.wait()
    while (last := seen.last(patient=before is not None)) is None:
        yield seen.tick()
        time.sleep(LOOK_AROUND_S)
    yield last


class _Seen:
    """A job as it was seen last: its row, its counts, its nodes. Each is asked for anew when that is due."""

    def __init__(self, session: Session, job: Job, lookout: Lookout) -> None:
        self._session = session
        self._lookout = lookout
        self._asked = Asked("the queue")
        self._buried: set[NodeName] = set()
        self._started = self._looked_at = self.count_at = session.clock.monotonic()
        self.job = job
        self.nodes = lookout.nodes()
        self.outcomes: Mapping[Outcome, int] = {}
        self.ended = False

    @property
    def silent(self) -> bool:
        """Whether the queue did not answer the last question."""
        return self._asked.outage is not None

    def ask(self, *, patient: bool) -> bool:
        """Ask what is due; whether that was the job's row and its nodes too, or more is to be told than the counts.

        Raises what the queue raises, but for its silence if the caller is `patient`.
        """
        began = self._session.clock.monotonic()
        counts, around = began >= self.count_at or not self.job.open, began - self._looked_at >= LOOK_AROUND_S
        with self._outlasting(patient=patient):
            if counts:
                self._count(began)
            if around and not self.ended:
                self._look_around(began)
            if counts or around:
                self._asked.answered()
            return around
        return True

    def wait(self) -> None:
        """Until the queue may have changed, for a while at most, also if it is silent."""
        queue = self._session.queue
        with self._outlasting(patient=True):
            queue.wait(LONGEST_WAIT_S[queue.reach])
            return
        time.sleep(LONGEST_WAIT_S[queue.reach])

    def last(self, *, patient: bool) -> Tick | None:
        """How the job ended, of which nothing may be missing; None while the queue is silent, if `patient`."""
        queue = self._session.queue
        with self._outlasting(patient=patient):
            self.job, self.outcomes = queue.refresh(self.job), queue.outcomes(self.job.id, consistent=True)
            self._asked.answered()
            return replace(self.tick(), ended=True)
        return None

    @contextmanager
    def _outlasting(self, *, patient: bool) -> Iterator[None]:
        """Have the queue's silence on record, if the caller is `patient`; whatever else it raises is raised."""
        began = self._session.clock.monotonic()
        try:
            yield
        except BackendError as error:
            if not error.transient or not patient:
                raise
            self._asked.failed(error, began)

    def tick(self) -> Tick:
        """The same for whoever waits."""
        outage = self._asked.outage or self._lookout.outage
        return Tick(
            job=self.job,
            outcomes=self.outcomes,
            nodes=self.nodes,
            elapsed_s=self._session.clock.monotonic() - self._started,
            outages=() if outage is None else (outage,),
            stale=self.silent,
        )

    def _count(self, began: float) -> None:
        queue, clock = self._session.queue, self._session.clock
        self.outcomes = queue.outcomes(self.job.id)
        self.count_at = clock.monotonic() + pause_after(queue.reach, self.outcomes, clock.monotonic() - began)
        self.ended = _all_ended(self.job, self.outcomes) and queue.close_if_done(self.job)

    def _look_around(self, began: float) -> None:
        self._looked_at = began
        self.job = self._session.queue.refresh(self.job)
        sweep(self._session, self.job)
        self.nodes = self._lookout.nodes()
        ended = {seen.name for seen in self.nodes.dead if not seen.ending}
        if ended - self._buried:
            disown_gone(self._session, self.job, self.nodes)
            self._buried |= ended


def pause_after(reach: Reach, outcomes: Mapping[Outcome, int], counting_s: float) -> float:
    """For how long not to count again after a count that gave those and took so long."""
    paid_for = sum(outcomes.values()) / ROWS_A_SECOND if reach is Reach.NETWORK else 0.0
    return max(SHORTEST_WAIT_S, COUNTING_SHARE * counting_s, paid_for)


def _all_ended(job: Job, outcomes: Mapping[Outcome, int]) -> bool:
    """Whether it is worth asking for the job's end: all its rows are there and none is unfinished."""
    ended = sum(count for outcome, count in outcomes.items() if outcome.state not in UNFINISHED)
    return ended == job.total == sum(outcomes.values())
