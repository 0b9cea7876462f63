"""Same name again: whether a job of that name stands in the way, is as good as the new one, or does not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import zip_longest

from kubeq.actions.plan import Plan
from kubeq.actions.session import Session
from kubeq.core.digest import Digest
from kubeq.core.model import Job, Task
from kubeq.core.spec import JobSpec
from kubeq.core.wire import decode_spec, unpinned
from kubeq.errors import Conflict, ObjectNotFound

InputsOf = Callable[[int], Digest | None]


class IfExists(StrEnum):
    """What to do when a job of that name exists."""

    NEW = "new"
    SKIP = "skip"
    ABORT = "abort"


def standing_job(
    session: Session, plan: Plan, spec: JobSpec, inputs_of: InputsOf, if_exists: IfExists | None
) -> Job | None:
    """The job to be content with; None if a new one is to be made. Raises Conflict if the name is not free.

    By default (None) a name that the user chose is respected while the job that has it is under way: an equal one is
    taken, another one is in the way. A name that was made up stands in nobody's way.
    """
    if if_exists is IfExists.NEW or (if_exists is None and not plan.named):
        return None
    older = _newest(session, plan.name)
    if older is None or (if_exists is None and not older.open):
        return None
    if older.sealed_at is None:
        raise Conflict(
            f"the job {plan.name!r} was not submitted: {older.id} has that name and is incomplete",
            hint=f"kubeq resume {older.id} completes it, kubeq clean {older.id} --force removes it",
        )
    equal = if_exists is not IfExists.ABORT and _is_equal(session, older, plan, spec, inputs_of)
    if equal:
        return older
    if if_exists is IfExists.SKIP:
        return None
    state = "is under way" if older.open else "has ended"
    raise Conflict(
        f"the job {plan.name!r} was not submitted: {older.id} has that name and {state}",
        hint="choose another name, or --if-exists new for a second job of that name",
    )


def _newest(session: Session, name: str) -> Job | None:
    entries = [entry for entry in session.queue.entries() if entry.name == name]
    newest = max(entries, key=lambda entry: (entry.submitted_at, entry.id), default=None)
    return next(iter(session.queue.jobs([newest], strict=True)), None) if newest is not None else None


def _is_equal(session: Session, older: Job, plan: Plan, spec: JobSpec, inputs_of: InputsOf) -> bool:
    """Whether the older job was asked for in the same words, with the same parameters and the same input bytes."""
    if (older.total, older.columns, older.policy) != (plan.total, spec.columns, plan.policy):
        return False
    wanted = None if session.dressing is None else session.dressing.digest
    pool = session.queue.pool(older.pool)
    if (None if pool is None else pool.outfit) != wanted:
        return False
    try:
        asked = decode_spec(session.blobs.read(older.spec))
    except ObjectNotFound:
        return False
    if unpinned(asked) != unpinned(spec):
        return False
    rows: Sequence[Sequence[str]] = [()] if plan.table is None else plan.table.rows
    tasks = session.queue.tasks(older.id)
    return all(  # a job that is half removed has fewer tasks than it says
        task is not None and row is not None and task.id.index == index and _is_same(task, row, inputs_of(index - 1))
        for index, (task, row) in enumerate(zip_longest(tasks, rows), start=1)
    )


def _is_same(task: Task, row: Sequence[str], inputs: Digest | None) -> bool:
    return task.values == tuple(row) and task.inputs == inputs
