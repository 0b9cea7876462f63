"""An attempt's output directory, its stdout and, written last, its result document.

    results/<job id>/<index>/<attempt>/<relative path>
    results/<job id>/<index>/<attempt>.stdout.txt
    results/<job id>/<index>/<attempt>.result.json

Plain files that any tool can browse; no name that a task chooses can collide with ours. What a document says is in
`results`; live output is in `logs`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, clean_destination
from kubeq.core.model import JobId, TaskId
from kubeq.errors import BackendError, IntegrityError
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import hash_file
from kubeq.store.checkpoints import checkpoints_of_job
from kubeq.store.keys import LONGEST_KEY
from kubeq.store.parallel import run_parallel, threads_for
from kubeq.store.results import (
    DOCUMENT_LIMIT,
    ResultDocument,
    Skipped,
    decode_result,
    encode_result,
    entries_of,
    result_document,
)

__all__ = ["OutputFile", "Outputs", "ResultDocument", "Skipped", "entries_of", "result_document"]

_OF_ATTEMPT = re.compile(r"results/([^/]+)/([1-9][0-9]{0,9})/([1-9][0-9]{0,9})(?:/.+|\.stdout\.txt|\.result\.json)")
_DELETE_BATCH = 1000
"""S3 takes 1,000 keys a DeleteObjects request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """One file to be stored. `open` may be called more than once, from any thread."""

    path: str
    open: Callable[[], BinaryIO]
    digest: Digest
    executable: bool = False

    @property
    def entry(self) -> Entry:
        """How the result document names it."""
        return Entry(self.path, self.digest, self.executable)


class Outputs:
    """What attempts leave behind, in an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def publish(
        self,
        task: TaskId,
        attempt: int,
        files: Sequence[OutputFile],
        stdout: Path | None,
        document: Mapping[str, Any],
    ) -> None:
        """Store the files and the stdout in parallel, then the document. On return all of it is durable.

        May be repeated with the same values after any failure: what stands already is accepted. Raises IntegrityError
        if an object of another size, or another document, stands there: this attempt number was used before. Raises
        BackendError (with `transient`) if the store cannot take it or a file cannot be read. The document is one of
        `result_document` and names exactly these files.
        """
        content = encode_result(document)
        if len(content) > DOCUMENT_LIMIT:
            raise BackendError(
                f"task {task} has too many output files ({len(files)}): a document about them has {len(content)} bytes",
                hint="store fewer files: --results, --ignore, or an archive made by the task",
            )
        if entries_of(decode_result(content, task, attempt)) != tuple(sorted(file.entry for file in files)):
            raise ValueError(f"the result document of task {task} does not name the files that are stored with it")
        prefix = _attempt(task, attempt)
        puts = [partial(self._put, task, f"{prefix}/{file.path}", file.open, file.digest) for file in files]
        if stdout is not None:
            digest = hash_file(stdout)
            puts.append(partial(self._put, task, f"{prefix}.stdout.txt", lambda: stdout.open("rb"), digest))
        run_parallel(puts, threads_for(self._store.reach))
        key = f"{prefix}.result.json"
        self._put(task, key, lambda: io.BytesIO(content), Digest.of(content))

    def read_result(self, task: TaskId, attempt: int) -> dict[str, Any]:
        """The checked result document; `entries_of` gives its files. Raises ObjectNotFound, or IntegrityError naming
        the task if it is not one that a node of ours could have written.
        """
        return decode_result(self.result_text(task, attempt), task, attempt)

    def result_text(self, task: TaskId, attempt: int) -> bytes:
        """The result document as it is stored, not checked. Raises ObjectNotFound, IntegrityError if it is too long."""
        with self._store.get(f"{_attempt(task, attempt)}.result.json") as stream:
            content = stream.read(DOCUMENT_LIMIT + 1)
        if len(content) > DOCUMENT_LIMIT:
            raise IntegrityError(f"the result document of task {task} is larger than {DOCUMENT_LIMIT} bytes")
        return content

    def open_file(self, task: TaskId, attempt: int, path: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of one output file from byte `start` on, not verified.

        Raises ObjectNotFound, UsageError for a path that leaves it.
        """
        return self._store.get(file_key(task, attempt, path), start)

    def open_stdout(self, task: TaskId, attempt: int, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The stored stdout from byte `start` on. Raises ObjectNotFound as long as nothing was published."""
        return self._store.get(f"{_attempt(task, attempt)}.stdout.txt", start)

    def delete_job(self, job: JobId) -> None:
        """Remove all that the job's attempts stored: documents, files, stdout, leavings. May be repeated."""
        # A task's documents sort before its files ("." before "/"), so a crash leaves no document without its bytes.
        self._delete(f"results/{job}/")
        self.delete_leavings(job)

    def delete_leavings(self, job: JobId) -> None:
        """Remove log segments (those of lost attempts stay until then) and checkpoints only. May be repeated."""
        self._delete(f"logs/{job}/")
        self._delete(checkpoints_of_job(job))

    def url_of(self, what: JobId | TaskId) -> str:
        """Where people find the outputs of a job or of a task; ends in a slash."""
        place = f"{what.job}/{what.index}" if isinstance(what, TaskId) else what
        return f"{self._store.url}/results/{place}/"

    def _delete(self, prefix: str) -> None:
        keys = (stored.key for stored in self._store.list(prefix))
        while batch := list(islice(keys, _DELETE_BATCH)):
            self._store.delete(batch)

    def _put(self, task: TaskId, key: str, open: Callable[[], BinaryIO], digest: Digest) -> None:
        if len(key.encode()) > LONGEST_KEY:
            raise BackendError(
                f"an output of task {task} cannot be stored: its name is too long ({key[:120]!r}...)",
                hint=f"with the job, the task and the attempt before it a name may have {LONGEST_KEY} bytes",
            )
        try:
            created = self._store.put(key, open, digest.size, digest.sha256)
        except OSError as error:
            # A store translates its own errors, so this one is the file's.
            raise BackendError(f"an output of task {task} could not be read ({key!r}): {error}") from error
        if not created and not self._stands(key, digest):
            raise IntegrityError(
                f"task {task} cannot store {key!r}: other bytes stand there already",
                hint="its attempt number was used before (was the queue restored from a copy?); run kubeq reset on it",
            )

    def _stands(self, key: str, digest: Digest) -> bool:
        if self._store.stat([key]).get(key) != digest.size:
            return False
        if not key.endswith(".result.json"):
            return True
        with self._store.get(key) as stream:
            return Digest.of(stream.read()) == digest


def file_key(task: TaskId, attempt: int, path: str) -> str:
    """The key of one output file. Raises UsageError for a path that leaves the attempt's directory."""
    return f"{_attempt(task, attempt)}/{clean_destination(path)}"


def attempt_of_key(key: str) -> tuple[TaskId, int] | None:
    """The task and the attempt that a result belongs to; None for the key of anything else."""
    match = _OF_ATTEMPT.fullmatch(key)
    return None if match is None else (TaskId(JobId(match[1]), int(match[2])), int(match[3]))


def _attempt(task: TaskId, attempt: int) -> str:
    return f"results/{task.job}/{task.index}/{attempt}"
