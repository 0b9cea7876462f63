"""Forgetting jobs that nobody needs any more, and nodes that are gone. Blobs that are left over: `unused_blobs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeq.actions.drafts import drop_draft
from kubeq.actions.finding import find_jobs
from kubeq.actions.hooks import drop_hooks
from kubeq.actions.nodes import list_nodes
from kubeq.actions.relaying import let_go_nodes, let_go_pool
from kubeq.actions.session import Session
from kubeq.actions.status import JobSummary, count_states, summarize
from kubeq.core.model import Job, JobStatus, NodeState, TaskState
from kubeq.core.quantities import format_duration
from kubeq.core.selectors import is_glob
from kubeq.errors import Conflict
from kubeq.store.node_logs import delete_node_log

SUBMITTING_S = 3600.0
"""An incomplete job that is younger may still be on its way: the largest submission takes minutes."""
PAUSE_S = 0.5
"""Between two looks at whether the last attempts have stopped."""
STOPPING_S = 60.0
"""How long attempts may take to stop once their nodes know, on top of a lease."""
GONE_S = 86400.0
"""So long `kubeq nodes --all` and `kubeq logs NODE` can still tell what became of a node, whatever is cleaned."""
_ENDED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanPlan:
    """The jobs that would be forgotten, and those that would be kept, with why."""

    jobs: tuple[JobSummary, ...]
    kept: tuple[tuple[Job, str], ...] = ()


def plan_clean(
    session: Session, texts: Sequence[str], *, older_s: float | None = None, force: bool = False
) -> CleanPlan:
    """What a clean of those jobs, or of every job, would do; changes nothing.

    Raises Conflict for a job that was named, not by a glob, and is not to be forgotten.
    """
    named = bool(texts) and not any(is_glob(text) for text in texts)
    chosen: list[JobSummary] = []
    kept: list[tuple[Job, str]] = []
    for summary in summarize(session, find_jobs(session, texts)):
        why = _why_keep(session, summary, older_s, force)
        if why is None:
            chosen.append(summary)
        elif named:
            raise Conflict(f"job {summary.job.id} ({summary.job.name}) was not removed: {why[0]}", hint=why[1])
        else:
            kept.append((summary.job, why[0]))
    return CleanPlan(jobs=tuple(chosen), kept=tuple(kept))


def clean_job(session: Session, summary: JobSummary, *, results: bool = False) -> None:
    """Forget one job, stopped first if it runs; with `results` also what it stored. Safe to repeat after a crash.

    Its private pool goes with it, and what its nodes left on this machine. Raises Conflict if its attempts do not stop.
    """
    job = summary.job
    if summary.status not in _ENDED:
        _stop(session, job)
    if results:
        session.outputs.delete_job(job.id)
    else:
        session.outputs.delete_leavings(job.id)
    session.queue.forget(job)
    drop_draft(session, job.id)
    drop_hooks(session, job.id)
    pool = session.queue.pool(job.pool)
    if pool is not None and pool.private and not session.queue.has_jobs(job.pool):
        for node in session.queue.peers(pool.id):
            delete_node_log(session.store, node.name)
        for provider in session.providers_of(job.pool):
            provider.forget(job.pool, 0.0)
        let_go_pool(session, job.pool)
        session.queue.forget_pool(job.pool)


def clean_jobs(session: Session, plan: CleanPlan, *, results: bool = False) -> None:
    """Forget every job of the plan."""
    for summary in plan.jobs:
        clean_job(session, summary, results=results)


def forget_gone_nodes(session: Session) -> None:
    """Forget nodes of every pool that have been gone for more than a day: their rows, their folders on this machine.

    A node that died without a word counts from its last report; undelivered outcomes are kept, with their folder.
    Where no machine of a pool was left for so long, what its cloud keeps for them goes too.
    """
    oldest = session.clock.now() - GONE_S
    gone = [facts.node for facts in list_nodes(session, every=True) if facts.node.state is NodeState.GONE]
    forgotten = [node for node in gone if (node.ended_at or node.requested_at) <= oldest]
    let_go_nodes(session, (node.name for node in forgotten))
    for node in forgotten:
        delete_node_log(session.store, node.name)
    session.queue.forget_nodes(forgotten)
    session.here.forget(None, GONE_S)
    for pool in session.queue.pools():
        made = max(pool.created_at, pool.numbered_at or 0.0)
        if pool.machines is not None and made <= oldest and not session.queue.peers(pool.id):
            session.provider_of(pool.id).forget(pool.id, GONE_S)


def _why_keep(
    session: Session, summary: JobSummary, older_s: float | None, force: bool
) -> tuple[str, str | None] | None:
    """Why the job is to be kept, and what to do about it; None if it may go."""
    job, now = summary.job, session.queue.now()
    age = now - (job.closed_at or job.submitted_at)
    if older_s is not None and age < older_s:
        return f"it is only {format_duration(age)} old", "leave --older out"
    if summary.status in _ENDED or force:
        return None
    if summary.status is JobStatus.INCOMPLETE:
        if age >= SUBMITTING_S:
            return None
        return "its submission may still be under way", f"kubeq resume {job.id} completes it, --force removes it"
    return f"it is {summary.status}", f"kubeq kill {job.id} first, or add --force"


def _stop(session: Session, job: Job) -> None:
    """Cancel the job and wait until none of its attempts holds a lease any more."""
    queue = session.queue
    queue.cancel_job(job)
    deadline = session.clock.monotonic() + job.policy.lease_s + STOPPING_S
    while True:
        queue.sweep(queue.refresh(job))
        running = count_states(queue.outcomes(job.id, consistent=True))[TaskState.CLAIMED]
        if not running:
            return
        if session.clock.monotonic() >= deadline:
            raise Conflict(
                f"job {job.id} was not removed: {running} of its attempts did not stop",
                hint=f"see kubeq status {job.id}, then run kubeq clean again",
            )
        queue.wait(PAUSE_S)
