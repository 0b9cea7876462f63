"""Waiting for a job: a tick whenever something changed, until everything in it has ended. Starts and stops nothing.

Whoever looks may make the swaps that nobody else can be relied on for: expired leases of a paused or killed job, claims
of agents that died on this machine, and the job's own gate once nothing is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from kubeq.actions.disowning import disown_gone
from kubeq.actions.launching import Nodes
from kubeq.actions.lookout import Lookout
from kubeq.actions.relaying import sweep
from kubeq.actions.session import Session
from kubeq.core.model import UNFINISHED, Job, JobStatus, NodeName, Reach, TaskState
from kubeq.core.transitions import job_status
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

    `tend` is called whenever the nodes were looked at while there is work left, and told what was seen of them; what it
    raises ends the waiting. Raises NotFound when the job is removed meanwhile.
    """
    with Lookout(session, job.pool) as lookout:
        yield from _follow(session, job, lookout, tend)


def _follow(session: Session, job: Job, lookout: Lookout, tend: Tend | None) -> Iterator[Tick]:
    queue, clock = session.queue, session.clock
    started = looked = count_at = clock.monotonic()
    nodes = lookout.nodes()
    outcomes: Mapping[Outcome, int] = {}
    before: Mapping[Outcome, int] | None = None
    buried: set[NodeName] = set()
    while True:
        began = clock.monotonic()
        if began >= count_at or not job.open:
            outcomes = queue.outcomes(job.id)
            count_at = clock.monotonic() + pause_after(queue.reach, outcomes, clock.monotonic() - began)
            if _all_ended(job, outcomes) and queue.close_if_done(job):
                break
        due = began - looked >= LOOK_AROUND_S
        if due:
            looked = began
            job = queue.refresh(job)
            sweep(session, job)
            nodes = lookout.nodes()
            ended = {seen.name for seen in nodes.dead if not seen.ending}
            if ended - buried:
                buried |= ended
                disown_gone(session, job, nodes)
            if tend is not None and lookout.is_fresh:
                tend(job, outcomes, nodes)
                lookout.acted()
        if due or outcomes != before:
            before = outcomes
            yield Tick(job=job, outcomes=outcomes, nodes=nodes, elapsed_s=clock.monotonic() - started)
        time.sleep(min(max(SHORTEST_WAIT_S, count_at - clock.monotonic()), LOOK_AROUND_S))
        queue.wait(LONGEST_WAIT_S[queue.reach])
    yield Tick(
        job=queue.refresh(job),
        outcomes=queue.outcomes(job.id, consistent=True),
        nodes=nodes,
        elapsed_s=clock.monotonic() - started,
        ended=True,
    )


def pause_after(reach: Reach, outcomes: Mapping[Outcome, int], counting_s: float) -> float:
    """For how long not to count again after a count that gave those and took so long."""
    paid_for = sum(outcomes.values()) / ROWS_A_SECOND if reach is Reach.NETWORK else 0.0
    return max(SHORTEST_WAIT_S, COUNTING_SHARE * counting_s, paid_for)


def _all_ended(job: Job, outcomes: Mapping[Outcome, int]) -> bool:
    """Whether it is worth asking for the job's end: all its rows are there and none is unfinished."""
    ended = sum(count for outcome, count in outcomes.items() if outcome.state not in UNFINISHED)
    return ended == job.total == sum(outcomes.values())
