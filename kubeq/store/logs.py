"""An attempt's output while it runs: numbered write-once segments, appended and followed.

    logs/<job id>/<index>/<attempt>/<number, eight digits>

The segments of an attempt, joined, are a beginning of the stdout that it publishes in the end (`outputs`); when that is
stored they are deleted.
"""

from __future__ import annotations

import re

from kubeq.core.model import JobId, TaskId
from kubeq.errors import ObjectNotFound
from kubeq.store.base import ObjectStore
from kubeq.store.outputs import Outputs
from kubeq.store.segments import SegmentReader, SegmentWriter

_OF_ATTEMPT = re.compile(r"logs/([^/]+)/([1-9][0-9]{0,9})/([1-9][0-9]{0,9})/")


class LogWriter(SegmentWriter):
    """Appends to the log of one attempt. An attempt has one writer, and a writer starts with segment 1."""

    def __init__(self, store: ObjectStore, task: TaskId, attempt: int) -> None:
        super().__init__(store, _prefix(task, attempt))


class LogReader:
    """Follows the output of one attempt, from its beginning."""

    def __init__(self, store: ObjectStore, outputs: Outputs, task: TaskId, attempt: int) -> None:
        self._segments = SegmentReader(store, _prefix(task, attempt))
        self._outputs = outputs
        self._task = task
        self._attempt = attempt
        self._finished = False

    @property
    def finished(self) -> bool:
        """True once the stored stdout was read to its end: there will never be more.

        It stays False for an attempt that publishes no stdout (one that was lost, or never ran); then the caller knows
        from the task's record that the attempt has ended, and one more `read_new` gives the last of it.
        """
        return self._finished

    def read_new(self) -> bytes:
        """All that came since the last call, nothing lost and nothing twice; empty if nothing did.

        One listing and a get a new segment; without a new segment one listing and one get of the stored stdout, which
        continues at the byte that the segments have reached.
        """
        if self._finished:
            return b""
        return self._segments.read_new() or self._stored_rest()

    def _stored_rest(self) -> bytes:
        try:
            with self._outputs.open_stdout(self._task, self._attempt, self._segments.offset) as stream:
                rest = stream.read()
        except ObjectNotFound:
            return b""
        self._finished = True
        return rest


def attempt_of_segment(key: str) -> tuple[TaskId, int] | None:
    """The task and the attempt whose log begins with that key or prefix of keys; None for anything else."""
    match = _OF_ATTEMPT.match(key)
    return None if match is None else (TaskId(JobId(match[1]), int(match[2])), int(match[3]))


def _prefix(task: TaskId, attempt: int) -> str:
    return f"logs/{task.job}/{task.index}/{attempt}/"
