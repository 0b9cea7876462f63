"""What machines cost: what a launch would, and what those of a job have until now. Asks no cloud for prices.

Hours are counted from when a machine was asked for to when its end was seen, at the price it had when it was made. What
storage, networks and the services behind queue and store cost is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from kubeq.actions.launching import observe_pool, rows_of
from kubeq.actions.session import Session
from kubeq.core.machines import Offer
from kubeq.core.model import Job, Node, NodeState, Pool, PoolId
from kubeq.core.resources import Resources
from kubeq.nodes.open import HOSTS

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A launch of `count` machines, beside `warm` ones that are there, and what it costs in US dollars.

    None where the price is not known. `at_most`: if each lives as long as it may. `work_s` is how long the work takes
    if every task takes its whole time limit (None: it has none), and `work` what the machines cost until then.
    """

    offer: Offer
    count: int
    warm: int
    lifetime_s: float
    work_s: float | None = None

    @property
    def per_hour(self) -> float | None:
        """What those that would be started cost an hour."""
        return None if self.offer.price is None else self.offer.price * self.count

    @property
    def at_most(self) -> float | None:
        return None if self.per_hour is None else self.per_hour * self.lifetime_s / HOUR_S

    @property
    def work(self) -> float | None:
        if self.per_hour is None or self.work_s is None:
            return None
        return self.per_hour * min(self.work_s, self.lifetime_s) / HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """US dollars until now, and an hour from now on; `unknown` machines of unknown price are not in it."""

    dollars: float = 0.0
    per_hour: float = 0.0
    unknown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """So many tasks that each need that, and may take so long (None: any time)."""

    tasks: int
    need: Resources
    timeout_s: float | None = None


def quote(session: Session, pool: Pool, offer: Offer, wanted: int, work: Work | None = None) -> Quote:
    """What it takes to have `wanted` nodes of the pool up, hosts of the user's own first, by that offer. Only looks."""
    warm, missing = warm_and_missing(session, pool, wanted)
    work_s = None
    if work is not None and work.timeout_s is not None:
        work_s = ceil(work.tasks / (wanted * _slots(work.need, offer.type.resources))) * work.timeout_s
    lifetime_s = pool.machines.lifetime_s if pool.machines is not None else 0.0
    return Quote(offer=offer, count=missing, warm=warm, lifetime_s=lifetime_s, work_s=work_s)


def warm_and_missing(session: Session, pool: Pool, wanted: int) -> tuple[int, int]:
    """How many of so many nodes of the pool are up, and how many machines it takes besides hosts of the user's own."""
    known = session.queue.pool(pool.id) is not None
    live = observe_pool(session, pool.id).live if known else ()
    warm = min(wanted, len(live))
    rows = rows_of(session, pool.id) if live and pool.hosts else {}
    taken = sum(rows[name].provider == HOSTS for name in live if name in rows)
    hosts = min(wanted - warm, max(0, len(pool.hosts) - taken))
    return warm, wanted - warm - hosts


class Spending:
    """What the machines of jobs have cost. One listing a pool; none where the configuration knows of no cloud."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows: dict[PoolId, Sequence[Node]] = {}

    def on(self, job: Job) -> Spent | None:
        """What the job's have; None if there were none."""
        if not self._session.provider.capabilities.costs_money:
            return None
        if job.pool not in self._rows:
            self._rows[job.pool] = self._session.queue.peers(job.pool)
        return spent_on(self._rows[job.pool], job, self._session.queue.now())


def spent_on(nodes: Iterable[Node], job: Job, now: float) -> Spent | None:
    """What the machines among its pool's nodes have cost while the job was open; None if there were none.

    Jobs that share machines at the same time each have all of it.
    """
    dollars, per_hour, unknown, any_at_all = 0.0, 0.0, 0, False
    until = job.closed_at or now
    for node in nodes:
        ended = node.ended_at if node.state is NodeState.GONE else None
        hours = (min(ended or until, until) - max(node.requested_at, job.submitted_at)) / HOUR_S
        if node.machine is None or hours <= 0:
            continue
        any_at_all = True
        if node.machine.price is None:
            unknown += 1
            continue
        dollars += hours * node.machine.price
        per_hour += node.machine.price if ended is None and job.closed_at is None else 0.0
    return Spent(dollars=dollars, per_hour=per_hour, unknown=unknown) if any_at_all else None


def _slots(need: Resources, has: Resources) -> int:
    """How many tasks fit a machine at once."""
    by_cpu = int(has.cpu / need.cpu + 1e-9)
    by_memory = by_cpu if not need.memory or not has.memory else has.memory // need.memory
    return max(1, min(by_cpu, by_memory))
