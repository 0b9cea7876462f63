"""The local journal: which jobs were submitted from this machine, and how far each submission came.

`<state folder>/journal.jsonl`, a line an event, appended and made durable before the next step is taken. What LAST
means comes from here. Lines that cannot be read are passed over with one warning: everything else is in the queue.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kubeq.actions.session import Session
from kubeq.core.model import JobId
from kubeq.store.disk import disk_errors, sync_directory

log = logging.getLogger(__name__)
SCHEMA = 1


class Step(StrEnum):
    """How far a submission came."""

    BEGUN = "begun"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One event of one submission."""

    id: JobId
    step: Step
    queue_url: str
    name: str
    at: float


class Journal:
    """The journal in a state folder, for one queue: other profiles' submissions are not looked at."""

    def __init__(self, state_dir: Path, queue_url: str) -> None:
        self._path = state_dir / "journal.jsonl"
        self._queue_url = queue_url

    def write(self, id: JobId, step: Step, name: str, at: float) -> None:
        """Append one event; durable on return. Raises BackendError if the state folder cannot be written."""
        line = {"schema": SCHEMA, "id": id, "step": step, "queue": self._queue_url, "name": name, "at": at}
        text = (json.dumps(line) + "\n").encode()
        with disk_errors("write", os.fsencode(self._path)), self._locked() as (handle, size):
            if size and os.pread(handle, 1, size - 1) != b"\n":
                text = b"\n" + text  # a line that a crash cut short must not swallow this one
            os.write(handle, text)
            os.fsync(handle)
        if not size:
            sync_directory(os.fsencode(self._path.parent))

    def lines(self) -> list[JournalLine]:
        """The events of this queue, oldest first."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("the journal %s cannot be read: %s", self._path, error.strerror)
            return []
        lines, garbage = [], 0
        for text in content.splitlines():
            line = _parse(text)
            if line is None:
                garbage += bool(text.strip())
            elif line.queue_url == self._queue_url:
                lines.append(line)
        if garbage:
            log.warning("lines of the journal %s that cannot be read were passed over: %d", self._path, garbage)
        return lines

    def last(self, known: Container[str]) -> JobId | None:
        """The newest submission from here: one that was sealed, or one that was begun and whose job is `known`."""
        order: dict[JobId, Step] = {}
        for line in self.lines():
            order.setdefault(line.id, line.step)
            if line.step is Step.SEALED:
                order[line.id] = Step.SEALED
        for id, step in reversed(order.items()):
            if step is Step.SEALED or id in known:
                return id
        return None

    @contextmanager
    def _locked(self) -> Iterator[tuple[int, int]]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle, os.fstat(handle).st_size
        finally:
            os.close(handle)


def journal_of(session: Session) -> Journal:
    """The journal of the session's state folder and queue."""
    return Journal(session.config.state_dir, session.config.queue_url)


def _parse(text: bytes) -> JournalLine | None:
    try:
        line = json.loads(text)
        return JournalLine(
            id=JobId(str(line["id"])),
            step=Step(line["step"]),
            queue_url=str(line["queue"]),
            name=str(line["name"]),
            at=float(line["at"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
