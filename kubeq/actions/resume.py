"""Going on with a job: one whose submission was interrupted, one that is paused, one whose nodes are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kubeq.actions.disowning import disown_gone
from kubeq.actions.drafts import drop_draft, read_draft
from kubeq.actions.launching import ensure_nodes, nodes_for, pool_of_job
from kubeq.actions.session import Session
from kubeq.actions.starting import Say, nobody
from kubeq.actions.submit import Report, complete
from kubeq.core.model import UNFINISHED, Job, NodeName, Pool
from kubeq.errors import Conflict

Agree = Callable[[Pool, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What had to be done so that the job goes on."""

    job: Job
    completed: bool = False
    unpaused: bool = False
    launched: tuple[NodeName, ...] = ()


def resume(
    session: Session, job: Job, report: Report | None = None, say: Say = nobody, agree: Agree | None = None
) -> Resumed:
    """The job completed if its submission was interrupted, unpaused if it was paused, with nodes if it has work left.

    `agree` is asked, before anything is changed, whether the pool may have so many nodes; it raises if it may not.
    Raises NotFound if the draft of an incomplete job is not on this machine, Conflict for a job that was killed.
    """
    completed = unpaused = False
    draft = read_draft(session, job) if job.sealed_at is None else None
    left = _left(session, job)
    if job.cancelled and left:
        raise Conflict(f"job {job.id} was killed and cannot go on", hint=f"kubeq reset {job.id} makes it run again")
    pool = pool_of_job(session, job)
    if left and agree is not None:
        agree(pool, nodes_for(session, pool, left, job))
    if draft is not None:
        job = complete(session, draft, report).job
        completed = True
        left = _left(session, job)  # somebody else may have completed it long ago
    else:
        drop_draft(session, job.id)
    if job.paused:
        job = session.queue.resume(job)
        unpaused = True
    disown_gone(session, job)
    launched = ensure_nodes(session, pool, nodes_for(session, pool, left, job), say, job) if left else ()
    return Resumed(job=job, completed=completed, unpaused=unpaused, launched=launched)


def _left(session: Session, job: Job) -> int:
    """How many tasks have not ended."""
    if job.sealed_at is None:
        return job.total
    return sum(count for outcome, count in session.queue.outcomes(job.id).items() if outcome.state in UNFINISHED)
