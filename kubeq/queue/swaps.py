"""The swap loops, written once: apply a pure change to rows until each has been made or turned out to be illegal.

A lost answer is not a "no": the very same change (same `change_id`) is sent again until the backend answers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from kubeq.core.model import JobId, Task
from kubeq.errors import BackendError, Conflict, KubeqError
from kubeq.queue.base import Change, Cursor, Key, Partition, RecordTable, Row, Standing, Swapped
from kubeq.queue.rows import task_change, task_of

ROUNDS = 50
"""Collisions of one row in a row before giving up: far beyond what jittered writers produce."""
TRIES = 4
T = TypeVar("T")


def insist(call: Callable[[], T]) -> T:
    """The answer of an idempotent call, made again up to `TRIES` times when the error is transient.

    A call that has waited for the table as long as that may take is not made again: the table's patience is the total.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except BackendError as error:
            if not error.transient or error.waited or attempt == TRIES:
                raise
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
    raise AssertionError("the loop returns or raises")


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in runs of at most `size`."""
    iterator = iter(items)
    return list(iter(lambda: list(islice(iterator, size)), []))


def pages_of(table: RecordTable, partition: Partition) -> Iterator[Sequence[Row]]:
    """The rows of a partition in byte order of their names, a page at a time; strongly consistent page by page."""
    cursor: Cursor | None = None
    while True:
        page = insist(partial(table.list, partition, cursor, table.batch))
        yield page.rows
        cursor = page.after
        if cursor is None:
            return


def get_all(table: RecordTable, keys: Sequence[Key]) -> list[Row | None]:
    """The rows of any number of keys."""
    return [row for batch in batches(keys, table.batch) for row in insist(partial(table.get, batch))]


def swap_all(table: RecordTable, changes: Sequence[Change]) -> list[Swapped | Standing]:
    """The answers to any number of changes."""
    return [answer for batch in batches(changes, table.batch) for answer in insist(partial(table.swap, batch))]


def edit_tasks(
    table: RecordTable, job: JobId, rows: Sequence[Row], edit: Callable[[Task], Task]
) -> list[tuple[Task, int] | KubeqError]:
    """Each task as it stands after `edit`, with its row version; or the error that `edit` raised.

    `edit` is pure and may be called again with a newer task. An edit that changes nothing writes nothing. A row that
    has vanished gives a Conflict.
    """
    answers: list[tuple[Task, int] | KubeqError | None] = [None] * len(rows)
    standing: dict[int, Row] = dict(enumerate(rows))
    for _ in range(ROUNDS):
        changes: list[tuple[int, Task, Change]] = []
        for place, row in standing.items():
            try:
                old = task_of(row, job)
                new = edit(old)
            except KubeqError as error:
                answers[place] = error
                continue
            if new == old:
                answers[place] = (old, row.version)
            else:
                changes.append((place, new, task_change(new, row.version)))
        standing = {}
        swapped = swap_all(table, [change for _, _, change in changes])
        for (place, task, change), answer in zip(changes, swapped, strict=True):
            match answer:
                case Swapped():
                    answers[place] = (task, change.version + 1)
                case Standing(row=None):
                    answers[place] = Conflict(f"task {task.id} has been removed")
                case Standing(row=winner) if winner is not None:
                    standing[place] = winner
        if not standing:
            return [answer for answer in answers if answer is not None]
    raise BackendError(f"the tasks of job {job} changed faster than they could be written", transient=True)


def edit_row(table: RecordTable, key: Key, what: str, edit: Callable[[Row], Change | None]) -> Row | None:
    """One row as it stands after `edit` (None from `edit`: leave it); None if there is no such row."""
    row = insist(lambda: table.get([key]))[0]
    for _ in range(ROUNDS):
        if row is None:
            return None
        change = edit(row)
        if change is None:
            return row
        answer = swap_all(table, [change])[0]
        if isinstance(answer, Swapped):
            return answer.row
        row = answer.row
    raise BackendError(f"{what} changed faster than it could be written", transient=True)
