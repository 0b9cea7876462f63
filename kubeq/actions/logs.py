"""What tasks printed: which attempt is meant, reading it whole, following it while it runs.

How bytes become lines is in `core.printed`, what nodes logged in `node_logs`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from kubeq.actions.finding import Chosen
from kubeq.actions.session import Session
from kubeq.core.model import UNFINISHED, Job, Task, TaskId, TaskState
from kubeq.core.printed import Lines
from kubeq.errors import NotFound, ObjectNotFound, UsageError
from kubeq.store.logs import LogReader

CHUNK = 2**20
"""Bytes of stored output held in memory at a time."""
LOOK_S = 0.5
"""Between two looks for new output, at most; a queue that knows of changes wakes us sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some output of an attempt as it came; pieces are cut anywhere, also inside a character."""

    task: Task
    attempt: int
    content: bytes


def pick_task(session: Session, chosen: Chosen) -> tuple[Task, str | None]:
    """The one task whose output is meant, and why it was picked where the user named several.

    The first that runs, else the first that failed, else the first.
    """
    if not chosen.whole or chosen.job.total == 1:
        indexes = [1] if chosen.whole else list(chosen.indexes.of(chosen.job.name, chosen.job.total))
        if len(indexes) == 1:
            return session.queue.tasks_at(chosen.job.id, indexes)[0], None
        raise UsageError(
            f"{len(indexes)} tasks of job {chosen.job.name} are named, and their output would be mixed",
            hint="name one, or add --all to see each line with its task",
        )
    best: Task | None = None
    for task in session.queue.tasks(chosen.job.id):
        if task.state is TaskState.CLAIMED:
            return task, "the first that runs"
        if best is None or (task.state is TaskState.FAILED and best.state is not TaskState.FAILED):
            best = task
    if best is None:
        raise NotFound(f"job {chosen.job.name} has no tasks yet", hint=f"kubeq resume {chosen.job.id} completes it")
    return best, "the first that failed" if best.state is TaskState.FAILED else "the first"


def read_output(session: Session, task: Task, attempt: int | None = None) -> Iterator[Piece]:
    """All that an attempt (the latest if none is named) has printed so far. Raises NotFound if it never ran."""
    number = _attempt_of(task, attempt)
    for content in contents_of(session, task.id, number):
        yield Piece(task=task, attempt=number, content=content)


def last_lines(session: Session, task: Task, most: int) -> list[str]:
    """The last lines that a task has printed; none if it never ran."""
    kept: deque[str] = deque(maxlen=most)
    lines = Lines()
    try:
        for piece in read_output(session, task):
            kept.extend(lines.feed(piece.content))
    except NotFound:
        return []
    kept.extend(lines.close())
    return list(kept)


def contents_of(session: Session, task: TaskId, number: int) -> Iterator[bytes]:
    """All that a certain attempt has printed so far, in pieces; none if nothing of it is stored."""
    try:
        with session.outputs.open_stdout(task, number) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
        return
    except ObjectNotFound:
        pass
    reader = LogReader(session.store, session.outputs, task, number)
    while chunk := reader.read_new():
        yield chunk


def follow_output(session: Session, job: Job, index: int, attempt: int | None = None) -> Iterator[Piece]:
    """The output of a task as it comes, nothing lost and nothing twice, until the task (or that attempt) has ended.

    Without `attempt` it goes on with the next attempt when one ends and the task runs again. An empty piece says that
    nothing came since the last one.
    """
    task = session.queue.tasks_at(job.id, [index])[0]
    number = attempt or task.attempt
    while True:
        while number == 0 or number > task.attempt:
            if task.state not in UNFINISHED:
                return
            session.queue.wait(LOOK_S)
            task = session.queue.tasks_at(job.id, [index])[0]
            number = number or task.attempt
        yield from _follow_attempt(session, task, number)
        task = session.queue.tasks_at(job.id, [index])[0]
        if attempt is not None or (task.state not in UNFINISHED and task.attempt == number):
            return
        number += 1


def _follow_attempt(session: Session, task: Task, number: int) -> Iterator[Piece]:
    reader = LogReader(session.store, session.outputs, task.id, number)
    while not reader.finished:
        ended = _has_ended(session.queue.tasks_at(task.id.job, [task.id.index])[0], number)
        content = reader.read_new()
        yield Piece(task=task, attempt=number, content=content)
        if content:
            continue
        if ended:  # looked at before the reading, so that what it printed last has been read
            return
        session.queue.wait(LOOK_S)


def _has_ended(task: Task, number: int) -> bool:
    return task.attempt > number or task.state is not TaskState.CLAIMED


def _attempt_of(task: Task, attempt: int | None) -> int:
    if task.attempt == 0:
        raise NotFound(f"task {task.id} has not run yet", hint=f"kubeq logs -f {task.id} waits for it")
    if attempt is not None and not 1 <= attempt <= task.attempt:
        raise NotFound(f"task {task.id} has no attempt {attempt}", hint=f"its attempts are 1 to {task.attempt}")
    return attempt or task.attempt
