"""How many nodes a job is to have, changed while it runs: what is missing is started, what is too many leaves.

The number stands in the job's row, so whoever keeps up the job's nodes goes by it from now on. No attempt is stopped:
first those go that have not begun, then those that are idle, then the newest when they have finished what they run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kubeq.actions.fleet import withdrawn
from kubeq.actions.launching import fleet_now, nodes_for, number_missing, observe_pool, rows_of
from kubeq.actions.nodes import still_running
from kubeq.actions.session import Session
from kubeq.actions.starting import AS_THE_POOL, Numbered, Say, Wish, nobody, start_numbered
from kubeq.actions.wishes import Asked, check_asked, wished
from kubeq.core.model import UNFINISHED, Job, Node, NodeName, NodeOrder, NodeState, Pool
from kubeq.core.nodes import has_begun
from kubeq.errors import Conflict, UsageError

MOST_LOOKS = 5
"""Nodes begin while they are looked at. What another client numbers by the number of before, it withdraws itself: it
reads the job again before it launches.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retargeted:
    """What a new number of nodes came to. `before`: what was asked for until then, None if nothing was.

    `ended` had not begun, `leaving` were idle, `finishing` leave when what they run has ended. `because` is why there
    are fewer than asked for, or why more stay.
    """

    job: Job
    before: int | None
    started: Sequence[NodeName] = ()
    ended: Sequence[NodeName] = ()
    leaving: Sequence[NodeName] = ()
    finishing: Sequence[NodeName] = ()
    because: str | None = None


@dataclass(slots=True)
class _Sent:
    """Who was told to go; how many more would have to, but run tasks of other jobs, or cannot be reached now."""

    ended: list[NodeName] = field(default_factory=list)
    leaving: list[NodeName] = field(default_factory=list)
    finishing: list[NodeName] = field(default_factory=list)
    busy: int = 0
    unseen: int = 0


def check_target(job: Job) -> None:
    """Raises Conflict for a job whose submission is incomplete."""
    if job.sealed_at is None:
        raise Conflict(
            f"the submission of job {job.id} is incomplete, so it has no nodes",
            hint=f"kubeq resume {job.id} completes it",
        )


def missing_nodes(session: Session, pool: Pool, job: Job, target: int) -> int:
    """How many nodes would be started if the job were to have so many."""
    present, _ = _present(session, pool)
    return max(0, _wanted(session, pool, replace(job, nodes=target)) - len(present))


def wished_for_missing(
    session: Session, pool: Pool, job: Job, target: int, asked: Asked, say: Say
) -> tuple[Pool, Wish, int]:
    """The pool, which may have grown by hosts, what is wished of new nodes, and how many would be started.

    Raises UsageError for a wish that cannot be, or that is about no node as none is missing, BackendError if none of
    its hosts can be used; then nothing has changed.
    """
    check_asked(session, pool, asked)
    missing = missing_nodes(session, pool, job, target)
    if not missing and (asked.machines or asked.hosts):
        raise UsageError(
            f"no node would be started for job {job.id} now, and -m, --spot and --hosts are about new nodes only",
            hint=f"leave them out, or start nodes whatever there is: kubeq addnodes 1 {job.id}",
        )
    return (*wished(session, pool, asked, say), missing)


def retarget(
    session: Session,
    pool: Pool,
    job: Job,
    target: int,
    say: Say = nobody,
    wish: Wish = AS_THE_POOL,
    *,
    most: int | None = None,
) -> Retargeted:
    """Have the job have so many nodes from now on. New nodes are as `wish` says, and no more than `most`: who was asked
    before spending has agreed to so many, and the job and its pool may have changed since.

    Raises Conflict for an incomplete job, BackendError if nodes were missing and none of them came up: then the number
    stands all the same.
    """
    job = session.queue.refresh(job)
    check_target(job)
    wanted = _wanted(session, pool, replace(job, nodes=target))
    numbered = number_missing(
        session, pool, wanted, job, most
    )  # before somebody who waits starts others, not such as are wished
    changed = session.queue.set_nodes(job, target)
    if numbered.numbers:
        started = start_numbered(session, pool, numbered, say, wish)
        return Retargeted(job=changed, before=job.nodes, started=started, because=_why_fewer(changed, wanted, numbered))
    most, other = _wanted_by_others(session, pool, job)
    sent = _send_away(session, pool, changed, max(target, most))
    return Retargeted(
        job=changed,
        before=job.nodes,
        ended=sent.ended,
        leaving=sent.leaving,
        finishing=sent.finishing,
        because=_why_more(target, most, other, sent) or _why_fewer(changed, wanted, numbered),
    )


def _wanted(session: Session, pool: Pool, job: Job) -> int:
    """How many nodes the job is to have now: none if nothing of it may be started."""
    if job.sealed_at is None or job.paused or job.cancelled or not job.open:
        return 0
    left = sum(count for outcome, count in session.queue.outcomes(job.id).items() if outcome.state in UNFINISHED)
    return nodes_for(session, pool, left, job) if left else 0


def _wanted_by_others(session: Session, pool: Pool, job: Job) -> tuple[int, Job | None]:
    """The most that another job of the pool is to have now, and which."""
    entries = [entry for entry in session.queue.entries() if entry.pool == pool.id and entry.id != job.id]
    wanted = [(_wanted(session, pool, other), other) for other in session.queue.jobs(entries)]
    return max(wanted, key=lambda each: each[0], default=(0, None))


def _present(session: Session, pool: Pool) -> tuple[Sequence[NodeName], int]:
    """The pool's nodes that work, come up or are on their way, and do not leave; how many may be well, unheard."""
    if pool.machines is None:
        nodes = observe_pool(session, pool.id)
        return nodes.live, len(nodes.unseen)
    fleet = fleet_now(session, pool)
    return (*fleet.live, *fleet.coming), 0


def _send_away(session: Session, pool: Pool, job: Job, keep: int) -> _Sent:
    """Tell nodes to go until `keep` are left, as far as they may. Looks again until there is nothing more to tell."""
    sent = _Sent()
    for _ in range(MOST_LOOKS):
        present, sent.unseen = _present(session, pool)
        surplus = len(present) - keep
        if surplus <= 0:
            break
        rows = rows_of(session, pool.id)
        unbegun = [name for name in present if name not in rows or not has_begun(rows[name])]
        begun = [still_running(session, rows[name]) for name in present if name not in unbegun]
        free = [node for node in begun if all(task.job == job.id for task in node.tasks)]
        first = sorted(unbegun, key=_number, reverse=True)[:surplus]
        then = sorted(free, key=lambda node: (bool(node.tasks), -node.number))[: surplus - len(first)]
        sent.busy = surplus - len(first) - len(then)
        if not first and not then:
            break
        sent.ended += _withdraw(session, pool, first, f"job {job.id} is to have {job.nodes} now")
        _order(session, then, sent)
    return sent


def _withdraw(session: Session, pool: Pool, names: Sequence[NodeName], why: str) -> list[NodeName]:
    """End those of the nodes that have not begun up to now; the others are seen to have begun by the next look."""
    now = session.queue.now()
    ended = [name for name in names if session.queue.withdraw(withdrawn(pool, name, why, now))]
    for provider in session.providers_of(pool.id) if ended else ():
        provider.terminate(ended)
    return ended


def _order(session: Session, nodes: Sequence[Node], sent: _Sent) -> None:
    """Tell nodes to leave. Those that were told so by somebody else, or have ended, are not counted as told."""
    for node in nodes:
        told = session.queue.order(node, NodeOrder.SHRINK)
        if told is None or told.order is not NodeOrder.SHRINK or told.state is NodeState.GONE:
            continue
        (sent.finishing if node.tasks else sent.leaving).append(node.name)


def _number(name: NodeName) -> int:
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _why_fewer(job: Job, wanted: int, numbered: Numbered) -> str | None:
    """Why no more nodes are started than that."""
    if numbered.beyond:
        return f"{numbered.beyond:,} more were missing than asked about: kubeq addnodes --to {job.nodes} {job.id}"
    if wanted >= (job.nodes or 0):
        return None
    if job.paused:
        return f"it is paused: kubeq resume {job.id} starts what is missing"
    return f"it has {wanted:,} unfinished task{'s' * (wanted != 1)}" if wanted else "nothing of it is left to do"


def _why_more(target: int, most: int, other: Job | None, sent: _Sent) -> str | None:
    """Why more nodes stay than that."""
    reasons = []
    if most > target and other is not None:
        reasons.append(f"job {other.id} ({other.name}) of the same pool is to have {most:,}")
    if sent.busy:
        reasons.append(f"{sent.busy:,} more stay, as they run tasks of other jobs")
    if sent.unseen:
        reasons.append(f"{sent.unseen:,} cannot be reached now and are left alone")
    return "; ".join(reasons) or None
