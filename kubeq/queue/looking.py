"""Looking at jobs and tasks over any table; nothing here changes a row.

In a listing of many, a record of a newer kubeq is passed over and told of; whoever asks for that very one, or says that
the listing must be complete (`strict`), gets VersionMismatch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from kubeq.core.model import Job, JobId, Task, TaskId
from kubeq.errors import NotFound, VersionMismatch
from kubeq.queue.base import Key, RecordTable, Row
from kubeq.queue.rows import (
    JOBS,
    JobEntry,
    Outcome,
    entry_of,
    job_of,
    jobs_of,
    outcome_of,
    pin_key,
    pin_of,
    task_key,
    task_of,
    tasks_of,
)
from kubeq.queue.swaps import get_all, insist, pages_of
from kubeq.queue.sweeping import list_all

PINNED = "image"
log = logging.getLogger(__name__)
T = TypeVar("T")


class Listings:
    """What rows of many records say, those of a newer kubeq left out; each of these is told of once."""

    def __init__(self) -> None:
        self._told: set[Key] = set()

    def read(self, rows: Iterable[Row | None], decode: Callable[[Row], T], *, strict: bool = False) -> Iterator[T]:
        """The records of the rows that stand. Raises VersionMismatch for one of a newer kubeq only if `strict`."""
        for row in rows:
            if row is None:
                continue
            try:
                record = decode(row)
            except VersionMismatch as error:
                if strict:
                    raise
                if row.key not in self._told:
                    self._told.add(row.key)
                    log.warning("left out of what is listed: %s; %s", error.message, error.hint)
                continue
            yield record


class Looking:
    """The part of a queue that asks for jobs and tasks. The table and the listings are the queue's."""

    _table: RecordTable
    _listings: Listings

    def entries(self, *, strict: bool = False) -> list[JobEntry]:
        """Every job there is, oldest id first."""
        return list(self._listings.read(list_all(self._table, JOBS), entry_of, strict=strict))

    def jobs(self, entries: Sequence[JobEntry], *, strict: bool = False) -> list[Job]:
        """The jobs of those entries that still exist."""
        rows = get_all(self._table, [Key(jobs_of(entry.pool), entry.id) for entry in entries])
        return list(self._listings.read(rows, job_of, strict=strict))

    def job(self, id: JobId) -> Job:
        """One job by its full id. Raises NotFound, VersionMismatch."""
        entry = insist(lambda: self._table.get([Key(JOBS, id)]))[0]
        found = self.jobs([entry_of(entry)], strict=True) if entry is not None else []
        if not found:
            raise NotFound(f"there is no job {id}", hint="kubeq status lists every job")
        return found[0]

    def refresh(self, job: Job) -> Job:
        """The job as it stands now. Raises NotFound once it has been forgotten."""
        row = insist(lambda: self._table.get([Key(jobs_of(job.pool), job.id)]))[0]
        if row is None:
            raise NotFound(f"job {job.id} has been removed")
        return job_of(row)

    def outcomes(self, job: JobId, *, consistent: bool = False) -> Mapping[Outcome, int]:
        """How many tasks there are of each state, reason and exit code: one count."""
        tallies = insist(lambda: self._table.count(tasks_of(job), consistent))
        return {outcome_of(tally): rows for tally, rows in tallies.items() if rows}

    def tasks(self, job: JobId, *, strict: bool = False) -> Iterator[Task]:
        """Every task by index, a page at a time; strongly consistent page by page."""
        for rows in pages_of(self._table, tasks_of(job)):
            yield from self._listings.read(rows, lambda row: task_of(row, job), strict=strict)

    def tasks_at(self, job: JobId, indexes: Sequence[int]) -> list[Task]:
        """Those tasks. Raises NotFound naming the first that does not exist."""
        rows = get_all(self._table, [task_key(TaskId(job, index)) for index in indexes])
        for index, row in zip(indexes, rows, strict=True):
            if row is None:
                raise NotFound(f"job {job} has no task {index}")
        return [task_of(row, job) for row in rows if row is not None]

    def first_due(self, job: JobId) -> float | None:
        """The earliest time at which a task may be claimed or a lease ends; None if nothing is unfinished. A hint."""
        page = insist(lambda: self._table.due(tasks_of(job), float("inf"), None, 1))
        return page.rows[0].claimable_at if page.rows else None

    def pinned_image(self, job: JobId) -> str | None:
        """What the first agent resolved the job's image to, if the submitter could not."""
        row = insist(lambda: self._table.get([pin_key(job, PINNED)]))[0]
        return None if row is None else pin_of(row)
