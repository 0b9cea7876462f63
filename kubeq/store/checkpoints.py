"""What an attempt leaves for the next one of its task: one write-once archive an attempt, named by its digest.

    checkpoints/<job id>/<index>/<attempt>-<digest>.tar

What is in it and when it is made is the agent's affair.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeq.core.digest import Digest
from kubeq.core.model import JobId, TaskId
from kubeq.errors import IntegrityError
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import hash_file

_KEY = re.compile(r"checkpoints/([^/]+)/([1-9][0-9]{0,9})/([1-9][0-9]{0,9})-([0-9a-f]{64}-[0-9]{1,20})\.tar")
_PREFIX = re.compile(r"checkpoints/([^/]+)/([1-9][0-9]{0,9})/")
_PIECE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A stored one. `key` is its object's."""

    attempt: int
    digest: Digest
    key: str


class Checkpoints:
    """The checkpoints of all tasks, in an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def of(self, task: TaskId) -> list[Checkpoint]:
        """What stands of the task, the newest last. One listing."""
        found = (_parsed(stored.key) for stored in self._store.list(_prefix(task)))
        return sorted((one for one in found if one is not None), key=lambda one: one.attempt)

    def save(self, task: TaskId, attempt: int, archive: Path) -> Checkpoint:
        """Store the file as that attempt's; may be repeated. Raises BackendError, OSError for the file."""
        digest = hash_file(archive)
        key = f"{_prefix(task)}{attempt}-{digest}.tar"
        self._store.put(key, lambda: archive.open("rb"), digest.size, digest.sha256)
        return Checkpoint(attempt=attempt, digest=digest, key=key)

    def read(self, one: Checkpoint, destination: Path) -> None:
        """Have its bytes in that file. Raises ObjectNotFound, IntegrityError, BackendError, OSError for the file."""
        with self._store.get(one.key) as stream, destination.open("wb") as file:
            while piece := stream.read(_PIECE):
                file.write(piece)
        if hash_file(destination) != one.digest:
            raise IntegrityError(f"the stored bytes of {one.key} are not what its name says")

    def delete(self, those: Sequence[Checkpoint]) -> None:
        """Remove them. May be repeated."""
        if those:
            self._store.delete([one.key for one in those])


def checkpoints_of_job(job: JobId) -> str:
    """The prefix of all that a job's tasks have."""
    return f"checkpoints/{job}/"


def attempt_of_checkpoint(key: str) -> tuple[TaskId, int] | None:
    """The task and the attempt whose checkpoint has that key; None for the key of anything else."""
    match = _KEY.fullmatch(key)
    return None if match is None else (TaskId(JobId(match[1]), int(match[2])), int(match[3]))


def task_of_prefix(prefix: str) -> TaskId | None:
    """The task whose checkpoints have that prefix; None for any other."""
    match = _PREFIX.fullmatch(prefix)
    return None if match is None else TaskId(JobId(match[1]), int(match[2]))


def _prefix(task: TaskId) -> str:
    return f"checkpoints/{task.job}/{task.index}/"


def _parsed(key: str) -> Checkpoint | None:
    match = _KEY.fullmatch(key)
    return None if match is None else Checkpoint(attempt=int(match[3]), digest=Digest.parse(match[4]), key=key)
