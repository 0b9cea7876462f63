"""Strikes: whether a job's tasks fail here one after another, which says more about the node than about the tasks.

A task counts once on a node, however often it is tried again there; one that has failed on another node before does not
count here, so a task that fails everywhere costs a pool one strike at most. What was lost, given back or cancelled says
nothing. The limit is the job's own, and so is the count: what another job's tasks do here changes neither.
"""

from __future__ import annotations

from kubeq.core.model import Ending, JobId, NodeName
from kubeq.queue.claims import Final


class Strikes:
    """The tasks of each job that have failed on this node since one of its tasks succeeded here."""

    def __init__(self, node: NodeName) -> None:
        self._node = node
        self._failed: dict[JobId, set[int]] = {}

    def count(self, final: Final) -> str | None:
        """Take note of an attempt that has ended here; the reason to leave in a sentence, if this was one too many."""
        task, job = final.grant.task, final.grant.job
        if final.ending is Ending.SUCCEEDED:
            self._failed.pop(job.id, None)
        if final.ending is not Ending.FAILED or not job.policy.strikes:
            return None
        if any(attempt.ending is Ending.FAILED and attempt.node != self._node for attempt in task.attempts):
            return None
        failed = self._failed.setdefault(job.id, set())
        failed.add(task.id.index)
        if len(failed) < job.policy.strikes:
            return None
        self.forget(job.id)
        count = "a task" if len(failed) == 1 else f"{len(failed)} tasks in a row"
        return f"{count} of job {job.id} failed here, the last one: {final.report.message or final.reason}"

    def forget(self, job: JobId) -> None:
        """Begin anew for that job."""
        self._failed.pop(job, None)
