"""Going on with a job: one whose submission was interrupted, one that is paused, one whose nodes are gone."""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.actions.disowning import disown_gone
from kubeq.actions.drafts import drop_draft, read_draft
from kubeq.actions.launching import Say, ensure_nodes, nobody, nodes_for, pool_of_job
from kubeq.actions.session import Session
from kubeq.actions.submit import Report, complete
from kubeq.core.model import UNFINISHED, Job, NodeName
from kubeq.errors import Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What had to be done so that the job goes on."""

    job: Job
    completed: bool = False
    unpaused: bool = False
    launched: tuple[NodeName, ...] = ()


def resume(session: Session, job: Job, report: Report | None = None, say: Say = nobody) -> Resumed:
    """The job completed if its submission was interrupted, unpaused if it was paused, with nodes if it has work left.

    Raises NotFound if the draft of an incomplete job is not on this machine, Conflict for a job that was killed.
    """
    completed = unpaused = False
    if job.sealed_at is None:
        job = complete(session, read_draft(session, job), report).job
        completed = True
    else:
        drop_draft(session, job.id)
    left = sum(count for outcome, count in session.queue.outcomes(job.id).items() if outcome.state in UNFINISHED)
    if job.cancelled and left:
        raise Conflict(f"job {job.id} was killed and cannot go on", hint=f"kubeq reset {job.id} makes it run again")
    if job.paused:
        job = session.queue.resume(job)
        unpaused = True
    disown_gone(session, job)
    pool = pool_of_job(session, job)
    launched = ensure_nodes(session, pool, nodes_for(session, pool, left, job), say) if left else ()
    return Resumed(job=job, completed=completed, unpaused=unpaused, launched=launched)
