"""An attempt's output while it runs: numbered write-once segments, appended and followed.

    logs/<job id>/<index>/<attempt>/<number, eight digits>

The segments of an attempt, joined, are a beginning of the stdout that it publishes in the end (`outputs`); when that is
stored they are deleted.
"""

from __future__ import annotations

import io
import re

from kubeq.core.digest import Digest
from kubeq.core.model import JobId, TaskId
from kubeq.errors import IntegrityError, ObjectNotFound
from kubeq.store.base import ObjectStore
from kubeq.store.outputs import Outputs

_OF_ATTEMPT = re.compile(r"logs/([^/]+)/([1-9][0-9]{0,9})/([1-9][0-9]{0,9})/")
_DELETE_BATCH = 1000
"""S3 takes 1,000 keys a DeleteObjects request."""


class LogWriter:
    """Appends to the log of one attempt. An attempt has one writer, and a writer starts with segment 1."""

    def __init__(self, store: ObjectStore, task: TaskId, attempt: int) -> None:
        self._store = store
        self._prefix = _prefix(task, attempt)
        self._number = 1
        self._tried = 0
        """The highest number of a segment that may stand, should the answer to its put have been lost."""

    def append(self, chunk: bytes) -> None:
        """Store the chunk as the next segment; nothing for an empty one. One put.

        After a BackendError call it again with the same bytes, to which newer ones may have been added: what the failed
        call stored all the same is recognised. Raises IntegrityError if somebody else writes this attempt's log.
        """
        if not chunk:
            return
        key, digest = self._key(self._number), Digest.of(chunk)
        self._tried = self._number
        if self._store.put(key, lambda: io.BytesIO(chunk), digest.size, digest.sha256):
            self._number += 1
            return
        with self._store.get(key) as stream:
            standing = stream.read()
        if not standing or not chunk.startswith(standing):
            raise IntegrityError(f"the log segment {key} stands there already with other bytes")
        self._number += 1
        self.append(chunk[len(standing) :])

    def delete(self) -> None:
        """Remove what it has written, once the stdout is stored and the attempt is finished. May be repeated.

        It knows the names, so nothing is listed: where nothing was written, as for most short attempts, that costs
        nothing at all.
        """
        keys = [self._key(number) for number in range(1, self._tried + 1)]
        for start in range(0, len(keys), _DELETE_BATCH):
            self._store.delete(keys[start : start + _DELETE_BATCH])

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:08d}"


class LogReader:
    """Follows the output of one attempt, from its beginning."""

    def __init__(self, store: ObjectStore, outputs: Outputs, task: TaskId, attempt: int) -> None:
        self._store = store
        self._outputs = outputs
        self._task = task
        self._attempt = attempt
        self._prefix = _prefix(task, attempt)
        self._number = 0
        self._offset = 0
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
        return self._new_segments() or self._stored_rest()

    def _new_segments(self) -> bytes:
        pieces: list[bytes] = []
        for stored in self._store.list(self._prefix, self._key(0)):
            if stored.key != self._key(len(pieces) + 1):
                break  # The one in between was deleted, so the stdout is stored.
            try:
                with self._store.get(stored.key) as stream:
                    pieces.append(stream.read())
            except ObjectNotFound:
                break
        # Only now, so that nothing is lost when a request in between fails.
        self._number += len(pieces)
        self._offset += sum(map(len, pieces))
        return b"".join(pieces)

    def _stored_rest(self) -> bytes:
        try:
            with self._outputs.open_stdout(self._task, self._attempt, self._offset) as stream:
                rest = stream.read()
        except ObjectNotFound:
            return b""
        self._offset += len(rest)
        self._finished = True
        return rest

    def _key(self, ahead: int) -> str:
        return f"{self._prefix}{self._number + ahead:08d}"


def attempt_of_segment(key: str) -> tuple[TaskId, int] | None:
    """The task and the attempt whose log begins with that key or prefix of keys; None for anything else."""
    match = _OF_ATTEMPT.match(key)
    return None if match is None else (TaskId(JobId(match[1]), int(match[2])), int(match[3]))


def _prefix(task: TaskId, attempt: int) -> str:
    return f"logs/{task.job}/{task.index}/{attempt}/"
