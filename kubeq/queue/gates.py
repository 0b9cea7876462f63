"""What users change of a job's own row, over any table: its gates, and how many nodes it is to have. All by a swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kubeq.core.model import Job
from kubeq.errors import NotFound
from kubeq.queue.base import Change, Key, RecordTable, Row
from kubeq.queue.rows import job_change, job_of, jobs_of
from kubeq.queue.swaps import edit_row


class Gates:
    """The part of a queue that changes job rows after their seal. The table is the queue's."""

    _table: RecordTable

    def pause(self, job: Job) -> Job:
        """No new claims."""
        return self._edit_job(job, lambda old: replace(old, paused=True))

    def resume(self, job: Job) -> Job:
        """Claims go on."""
        return self._edit_job(job, lambda old: replace(old, paused=False))

    def set_nodes(self, job: Job, nodes: int) -> Job:
        """The job is to have so many nodes at most from now on, whoever keeps them up."""
        return self._edit_job(job, lambda old: replace(old, nodes=nodes))

    def _edit_job(self, job: Job, edit: Callable[[Job], Job]) -> Job:
        """The job row as it stands after `edit`."""

        def change(row: Row) -> Change | None:
            old = job_of(row)
            new = edit(old)
            return None if new == old else job_change(new, row.version)

        row = edit_row(self._table, Key(jobs_of(job.pool), job.id), f"job {job.id}", change)
        if row is None:
            raise NotFound(f"job {job.id} has been removed")
        return job_of(row)
