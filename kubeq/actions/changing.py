"""What a user changes about submitted work: kill, pause and reset. What may become of tasks: `core.transitions`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kubeq.actions.disowning import disown_gone
from kubeq.actions.finding import EVERYTHING, Choice, Chosen, find_chosen, find_jobs, tasks_of
from kubeq.actions.launching import ensure_nodes, pool_of_job
from kubeq.actions.plan import check_fits
from kubeq.actions.session import Session
from kubeq.core.model import UNFINISHED, Job, JobId, NodeName, Task, TaskState
from kubeq.core.resources import Resources
from kubeq.core.selectors import is_glob
from kubeq.errors import NotFound
from kubeq.queue.queue import Changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The ids of tasks (or jobs) that were changed, and those that were left alone, with why.

    `jobs` are the jobs that something was changed of.
    """

    changed: tuple[str, ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    jobs: tuple[Job, ...] = ()

    @staticmethod
    def sum(parts: Iterable[Changes]) -> Changes:
        """All of them together."""
        every = list(parts)
        return Changes(
            changed=tuple(id for part in every for id in part.changed),
            unchanged=tuple(pair for part in every for pair in part.unchanged),
            jobs=tuple({job.id: job for part in every for job in part.jobs}.values()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetRequest:
    """What `reset` is to touch beyond its default: failed and cancelled tasks, and claims whose lease has ended.

    `orphaned`: only such claims. `all`: succeeded and pending tasks too. `force`: healthy claims too. `node`: only
    claims of that node. `resources` replace the job's for the tasks that are reset.
    """

    choice: Choice = EVERYTHING
    orphaned: bool = False
    all: bool = False
    force: bool = False
    node: NodeName | None = None
    resources: Resources | None = None


def kill(session: Session, texts: Sequence[str]) -> Changes:
    """Cancel those jobs and tasks; on return nothing of them is or becomes claimed but what was told to stop.

    What has ended stays as it is, and a second kill changes nothing.
    """
    return Changes.sum(_kill(session, chosen) for chosen in find_chosen(session, texts))


def pause(session: Session, texts: Sequence[str]) -> Changes:
    """Let nothing more of those jobs be claimed; what runs goes on to its end. The ids of the jobs are in the answer.

    Raises UsageError for tasks: they have no gate of their own.
    """
    return Changes.sum(_pause(session, job) for job in find_jobs(session, texts))


def reset(session: Session, texts: Sequence[str], request: ResetRequest) -> Changes:
    """Make tasks pending again, exactly those that were asked for; the ids of the jobs are in the answer.

    A glob that matches several jobs resets only claims whose lease has ended, unless filters or `all` say more. Raises
    UsageError, before anything is changed, for resources that no node of a job's pool can have.
    """
    every = find_chosen(session, texts)
    if request.node is not None:
        _check_node(session, request.node, every)
    if request.resources is not None:
        for pool in {chosen.job.pool for chosen in every}:
            check_fits(request.resources, session.provider_of(pool))
    several = len({chosen.job.id for chosen in every}) > 1 and any(map(is_glob, texts))
    orphans_only = request.orphaned or (several and request.choice.empty and not request.all and request.node is None)
    return Changes.sum(_reset(session, chosen, request, orphans_only) for chosen in every)


def _kill(session: Session, chosen: Chosen) -> Changes:
    job, queue = chosen.job, session.queue
    if job.sealed_at is None:
        return Changes(unchanged=((job.id, f"job {job.id} ({job.name}) is incomplete: none of it runs"),))
    if not chosen.whole:
        done = queue.cancel_tasks(job, list(chosen.indexes.of(job.name, job.total)))
        _end_claims_of_the_dead(session, job)
        return _changes(job, done)
    left = [outcome for outcome in queue.outcomes(job.id, consistent=True) if outcome.state in UNFINISHED]
    if not left:
        return Changes(unchanged=((job.id, f"job {job.id} ({job.name}) has ended"),))
    done = queue.cancel_job(job)
    _end_claims_of_the_dead(session, job)
    queue.sweep(queue.refresh(job))
    queue.close_if_done(job)
    return _changes(job, done)


def _pause(session: Session, job: Job) -> Changes:
    named = f"job {job.id} ({job.name})"
    if job.sealed_at is None:
        return Changes(unchanged=((job.id, f"{named} is incomplete: none of it runs"),))
    if job.paused:
        return Changes(unchanged=((job.id, f"{named} is paused already"),))
    if not any(outcome.state in UNFINISHED for outcome in session.queue.outcomes(job.id, consistent=True)):
        return Changes(unchanged=((job.id, f"{named} has ended"),))
    return Changes(changed=(job.id,), jobs=(session.queue.pause(job),))


def _end_claims_of_the_dead(session: Session, job: Job) -> None:
    """End what dead agents still hold; and start one that removes what they left running on this machine."""
    if disown_gone(session, job).changed:
        ensure_nodes(session, pool_of_job(session, job))


def _reset(session: Session, chosen: Chosen, request: ResetRequest, orphans_only: bool) -> Changes:
    disown_gone(session, chosen.job)
    wanted = [task.id.index for task in _wanted(session, chosen, request, orphans_only)]
    if not wanted:
        return Changes()
    done = session.queue.reset(
        chosen.job,
        wanted,
        succeeded=request.all or not chosen.whole,
        force=request.force,
        resources=request.resources,
    )
    return _changes(chosen.job, done)


def _wanted(session: Session, chosen: Chosen, request: ResetRequest, orphans_only: bool) -> Iterator[Task]:
    """The tasks that the user means; whether each may be reset is for the queue to say, and to explain."""
    now = session.queue.now()
    by_choice = request.all or not chosen.whole or not request.choice.empty
    for task in tasks_of(session, chosen, request.choice):
        claimed = task.state is TaskState.CLAIMED
        if orphans_only and not (claimed and (task.claimable_at or 0.0) <= now):
            continue
        if request.node is not None and not (claimed and task.current and task.current.node == request.node):
            continue
        if by_choice or task.state in (TaskState.FAILED, TaskState.CANCELLED, TaskState.CLAIMED):
            yield task


def _check_node(session: Session, node: NodeName, every: Sequence[Chosen]) -> None:
    known = {peer.name for pool in {chosen.job.pool for chosen in every} for peer in session.queue.peers(pool)}
    if node not in known:
        raise NotFound(f"no job that was named has a node {node!r}", hint="kubeq nodes --all lists the nodes")


def _changes(job: Job, done: Changed) -> Changes:
    changed = set(done.changed)  # what a first pass has changed is unchanged to a second one
    return Changes(
        changed=tuple(_id(job.id, index) for index in done.changed),
        unchanged=tuple((_id(job.id, index), why) for index, why in done.unchanged if index not in changed),
        jobs=(job,) if done.changed else (),
    )


def _id(job: JobId, index: int) -> str:
    return f"{job}/{index}"
