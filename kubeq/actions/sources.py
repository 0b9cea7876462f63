"""What the URL of an input names, for a session: outside, or with `kubeq://JOB/TASK/PATH` what an earlier task stored.

The latter is the task's recorded result as it is now. Its files are named by their digest, so a job that uses them
notices if they are gone, and can never get others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kubeq.actions.finding import find_job
from kubeq.actions.session import Session
from kubeq.actions.url_inputs import Look, look_outside
from kubeq.core.model import Task
from kubeq.errors import Conflict, UsageError
from kubeq.store.outputs import entries_of
from kubeq.store.result_source import SCHEME, result_url
from kubeq.store.sources import Pinned, nothing_at

_URL = re.compile(rf"{SCHEME}://(?P<job>[^/]+)/(?P<index>[1-9][0-9]*)(?:/(?P<path>.*))?")


def look_of(session: Session) -> Look:
    """What looks up the inputs of a submission in that session."""

    def look(url: str) -> Sequence[Pinned]:
        return _look_inside(session, url) if url.startswith(f"{SCHEME}://") else look_outside(url)

    return look


def _look_inside(session: Session, url: str) -> Sequence[Pinned]:
    named = _URL.fullmatch(url)
    if named is None:
        raise UsageError(
            f"{url} names no output of a task", hint="write kubeq://JOB/TASK/PATH, where TASK is its number"
        )
    task = _task(session, named["job"], int(named["index"]))
    assert task.result is not None, "a task without a result was refused"
    wanted = (named["path"] or "").rstrip("/")
    files = []
    for entry in entries_of(session.outputs.read_result(task.id, task.result)):
        if entry.path == wanted or not wanted or entry.path.startswith(f"{wanted}/"):
            name = "" if entry.path == wanted else entry.path[len(wanted) :].lstrip("/")
            files.append(
                Pinned(
                    url=result_url(task.id, task.result, entry.path),
                    pin=f"sha256:{entry.digest.sha256}",
                    size=entry.digest.size,
                    name=name,
                    executable=entry.executable,
                )
            )
    if not files:
        raise nothing_at(url)
    return files


def _task(session: Session, job_text: str, index: int) -> Task:
    """The task, which has a result in the session's store."""
    job = find_job(session, job_text)
    (task,) = session.queue.tasks_at(job.id, [index])
    if task.result is None:
        raise Conflict(
            f"task {task.id} has stored nothing yet: it is {task.state}", hint=f"kubeq watch {job.id} follows it"
        )
    if job.results_url != session.outputs.url_of(job.id):
        raise UsageError(
            f"task {task.id} has its results in {job.results_url}, which is another store than this job would have",
            hint="fetch them and upload the files",
        )
    return task
