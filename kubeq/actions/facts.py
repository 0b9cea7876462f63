"""Everything that is known of a job or of some of its tasks, for `list` and `show`. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeq.actions.finding import EVERYTHING, Choice, Chosen, tasks_of
from kubeq.actions.launching import SEEN_RECENTLY_S
from kubeq.actions.session import Session
from kubeq.actions.status import Situation, situation_of, why_task
from kubeq.core.manifest import Manifest
from kubeq.core.model import Job, Node, NodeState, Task, TaskId
from kubeq.core.spec import JobSpec, command_of
from kubeq.core.wire import decode_spec
from kubeq.errors import IntegrityError, ObjectNotFound

MOST_READ = 100
"""Of jobs with more tasks the result documents are not read for what was not stored: each is a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """A job with its spec. `image_digest` is what its image was resolved to, by the submitter or by the first agent."""

    job: Job
    spec: JobSpec
    image_digest: str | None
    situation: Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """A task with what follows from its job. `results_url` is where its result stands, None if it has none.

    `skipped` is how many files it left that are not stored; None if it has no result, or one of too many to be read.
    """

    task: Task
    parameters: Mapping[str, str]
    command: tuple[str, ...]
    image_digest: str | None
    results_url: str | None
    skipped: int | None
    because: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStored:
    """How many files a job's tasks left that are not stored, and the first task that left one."""

    files: int
    first: TaskId | None


def job_facts(session: Session, job: Job) -> JobFacts:
    """The job's spec, image and situation. Raises ObjectNotFound if its spec is not in the store any more."""
    spec = decode_spec(session.blobs.read(job.spec))
    pinned = spec.image_digest or (session.queue.pinned_image(job.id) if spec.image else None)
    return JobFacts(job=job, spec=spec, image_digest=pinned, situation=situation_of(session, job))


def list_tasks(
    session: Session, chosen: Chosen, choice: Choice = EVERYTHING, facts: JobFacts | None = None
) -> Iterator[TaskFacts]:
    """The tasks that are meant, one by one."""
    facts = facts or job_facts(session, chosen.job)
    url = session.outputs.url_of(chosen.job.id)
    for task in tasks_of(session, chosen, choice):
        yield TaskFacts(
            task=task,
            parameters=dict(zip(facts.job.columns, task.values, strict=True)),
            command=tuple(command_of(facts.spec, task.values)),
            image_digest=facts.image_digest,
            results_url=None if task.result is None else f"{url}{task.id.index}/{task.result}/",
            skipped=_skipped(session, task) if facts.job.total <= MOST_READ else None,
            because=why_task(task, facts.situation),
        )


def skipped_of(session: Session, job: Job) -> NotStored | None:
    """What the job's results say was not stored (links, special files, names that cannot be); None for a large job."""
    if job.total > MOST_READ:
        return None
    found = {task.id: _skipped(session, task) or 0 for task in session.queue.tasks(job.id)}
    return NotStored(files=sum(found.values()), first=next((id for id, files in found.items() if files), None))


def nodes_during(session: Session, job: Job) -> Sequence[Node]:
    """The nodes of the job's pool that were there while it was open and have told the requests they made, by number.

    A pool may have other jobs at the same time, and a node counts its requests for all of them together. One list.
    """
    return sorted(
        (node for node in session.queue.peers(job.pool) if node.requests is not None and _was_there(node, job)),
        key=lambda node: node.number,
    )


def _was_there(node: Node, job: Job) -> bool:
    last = node.ended_at if node.state is NodeState.GONE else (node.seen_at or node.requested_at) + SEEN_RECENTLY_S
    came_in_time = job.closed_at is None or (node.started_at or node.requested_at) <= job.closed_at
    return came_in_time and (last is None or last >= job.submitted_at)


def _skipped(session: Session, task: Task) -> int | None:
    try:
        result = result_of(session, task)
    except IntegrityError:
        return None
    return None if result is None else len(result["skipped"])


def inputs_of(session: Session, facts: JobFacts, task: Task | None = None) -> Manifest:
    """The files that are staged for the job's tasks, or for that task. Raises ObjectNotFound if their list is gone."""
    digest = (task.inputs if task is not None else None) or facts.spec.inputs
    return Manifest() if digest is None else session.blobs.read_manifest(digest)


def result_of(session: Session, task: Task) -> Mapping[str, Any] | None:
    """The result document of a task; None if it has none. Raises IntegrityError for one that cannot be believed."""
    if task.result is None:
        return None
    try:
        return session.outputs.read_result(task.id, task.result)
    except ObjectNotFound:
        return None
