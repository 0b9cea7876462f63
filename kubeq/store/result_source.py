"""Sources in this very store: files that an earlier task has stored, as `kubeq://JOB/INDEX/ATTEMPT/PATH`.

What users write, `kubeq://JOB/TASK/PATH`, is resolved to that at submission (`actions.sources`), which needs the queue.
The pin is the digest that the attempt's result document has.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO

from kubeq.core.manifest import Remote
from kubeq.core.model import JobId, TaskId
from kubeq.errors import IntegrityError, ObjectNotFound
from kubeq.store.outputs import Outputs
from kubeq.store.sources import gone

SCHEME = "kubeq"


def result_url(task: TaskId, attempt: int, path: str) -> str:
    """The URL of a file that the attempt has stored."""
    return f"{SCHEME}://{task.job}/{task.index}/{attempt}/{path}"


def result_in(url: str) -> tuple[TaskId, int, str] | None:
    """The task, the attempt and the path in such a URL; None for any other."""
    if not url.startswith(f"{SCHEME}://"):
        return None
    try:
        job, index, attempt, path = url.removeprefix(f"{SCHEME}://").split("/", 3)
        return TaskId(JobId(job), int(index)), int(attempt), path
    except ValueError:
        return None


class ResultSite:
    """What attempts have stored. It retries nothing: the store inside does."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def open(self, remote: Remote, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """See Opener; the bytes are not compared with the pin here, which is a digest."""
        source = result_in(remote.url)
        if source is None:
            raise IntegrityError(f"the input {remote.path} has no source: {remote.url} is none")
        try:
            return self._outputs.open_file(*source, start)
        except ObjectNotFound as error:
            raise gone(remote) from error
