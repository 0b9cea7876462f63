"""What a node logged, and what all that it ran has printed: from its file on this machine, else from the store.

The log itself says which attempts began there, so no job is searched for them. What a single task printed is in `logs`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TextIO

from kubeq.actions.launching import SEEN_RECENTLY_S
from kubeq.actions.logs import LOOK_S, contents_of
from kubeq.actions.session import Session
from kubeq.core.model import JobId, Node, NodeName, NodeState, PoolId, Reach, TaskId
from kubeq.core.printed import Lines
from kubeq.core.quantities import format_duration
from kubeq.errors import NotFound
from kubeq.nodes.boot import node_directory
from kubeq.store.disk import disk_errors
from kubeq.store.logs import LogReader
from kubeq.store.node_logs import node_log_reader
from kubeq.store.segments import SegmentReader

LOG, PRINTED = "agent.log", "agent.out"
NETWORK_LOOK_S = 3.0
"""Between two looks at a store where each is a request that is paid for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the node's own log, or (`task`) one that an attempt there has printed."""

    text: str
    task: TaskId | None = None
    attempt: int = 0


class Log(Protocol):
    """Where a node's log can be read."""

    def read_new(self) -> list[str]:
        """The whole lines that came since the last call."""
        ...

    def read_rest(self) -> list[str]:
        """A last line without an end, if there is one."""
        ...


def open_node_log(session: Session, name: NodeName) -> Log:
    """The node's log from its beginning. Raises NotFound if it has none that can be seen from here, and says why."""
    if "/" not in name and name not in (".", ".."):
        folder = node_directory(Path(session.config.state_dir), name)
        if any((folder / file).is_file() for file in (LOG, PRINTED)):
            return FileLog(folder)
        stored = StoredLog(node_log_reader(session.store, name))
        if stored.exists():
            return stored
        if printed := _console(session, name):
            return UnspokenLog(printed, stored)
        if (row := _row_of(session, name)) is not None:
            raise _silent(row, session.queue.now())
    raise NotFound(
        f"there is no job {name!r}, and no node of that name with a log", hint="kubeq nodes --all lists the nodes"
    )


def _row_of(session: Session, name: NodeName) -> Node | None:
    """What the queue knows of the node."""
    pool = PoolId(name.rpartition("-")[0])
    return next((node for node in session.queue.peers(pool) if node.name == name), None)


def _silent(node: Node, now: float) -> NotFound:
    """Why nothing that the node has printed can be seen."""
    if node.state is NodeState.GONE:
        why = node.note or "it left no reason"
        return NotFound(
            f"node {node.name} has printed nothing before it was gone ({node.gone}): {why}",
            hint="kubeq nodes --all lists what has become of every node",
        )
    since = format_duration(max(0.0, now - (node.started_at or node.requested_at)))
    what = "its agent has not spoken yet" if node.started_at is None else "what its agent logs is on its way"
    return NotFound(
        f"node {node.name} is {node.state} for {since} and has printed nothing yet: {what}",
        hint=f"kubeq nodes shows how it comes up; then kubeq logs {node.name} again",
    )


def _console(session: Session, name: NodeName) -> str | None:
    """What the node's machine has printed, if a cloud made it and keeps that."""
    pool = session.queue.pool(PoolId(name.rpartition("-")[0]))
    return None if pool is None or pool.machines is None else session.provider_of(pool.id).console(name)


def read_node(session: Session, name: NodeName) -> Iterator[Line]:
    """The node's log, then what each attempt that began there has printed, in the order of their beginnings."""
    log = open_node_log(session, name)
    begun: list[tuple[TaskId, int]] = []
    for line in (*log.read_new(), *log.read_rest()):
        if (attempt := attempt_in(line)) is not None:
            begun.append(attempt)
        yield Line(text=readable_log_line(line))
    for task, number in begun:
        lines = Lines()
        for content in contents_of(session, task, number):
            yield from _printed(task, number, lines.feed(content))
        yield from _printed(task, number, lines.close())


def follow_node(session: Session, name: NodeName) -> Iterator[Line | None]:
    """Both as they come, side by side, until the node has left; None says that nothing more came for now."""
    log = open_node_log(session, name)
    outputs: dict[tuple[TaskId, int], _Output] = {}
    while True:
        left = _has_left(session, name)
        lines = log.read_new()
        for line in lines:
            if (attempt := attempt_in(line)) is not None:
                outputs[attempt] = _Output(session, *attempt)
            yield Line(text=readable_log_line(line))
        for key, output in list(outputs.items()):
            yield from output.read_new()
            if output.finished or left:
                yield from output.close()
                del outputs[key]
        if left and not lines:
            return
        yield None
        if not lines:
            session.queue.wait(LOOK_S if session.store.reach is Reach.HOST else NETWORK_LOOK_S)


def attempt_in(line: str) -> tuple[TaskId, int] | None:
    """The attempt whose beginning a line of a node's log tells; None for any other line."""
    with suppress(ValueError, TypeError, KeyError):
        job, index, number = json.loads(line)["attempt"].split("/")
        return TaskId(JobId(job), int(index)), int(number)
    return None


def readable_log_line(line: str) -> str:
    """A JSON line of an agent as `time LEVEL message`, its traceback below; anything else as it is."""
    try:
        document = json.loads(line)
    except ValueError:
        return line.rstrip("\n")
    if not isinstance(document, dict) or "message" not in document:
        return line.rstrip("\n")
    at, level, message = document.get("at", ""), document.get("level", "info"), document["message"]
    with suppress(ValueError, TypeError):
        at = datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M:%SZ")
    more = "".join("\n    " + part for part in str(document.get("traceback", "")).splitlines())
    return f"{at} {str(level).upper():7} {message}{more}"


class FileLog:
    """The log of a node of this machine: what its agent printed before it could log, then its log."""

    def __init__(self, folder: Path) -> None:
        self._files = (GrowingFile(folder / PRINTED), GrowingFile(folder / LOG))

    def read_new(self) -> list[str]:
        """See Log."""
        return [line for file in self._files for line in file.read_new()]

    def read_rest(self) -> list[str]:
        """See Log."""
        return [line for file in self._files for line in file.read_rest()]


class GrowingFile:
    """The lines of a file that may not be there yet, and that is renamed to `.1`, `.2` when it has become long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older: list[Path] | None = None
        self._file: TextIO | None = None
        self._rest = ""

    def read_new(self) -> list[str]:
        """See Log."""
        lines: list[str] = []
        with disk_errors("read", self._path), suppress(FileNotFoundError):
            if self._older is None:
                self._older = sorted(self._path.parent.glob(f"{self._path.name}.[0-9]"), reverse=True)
                for older in self._older:
                    lines += older.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
            lines += self._read()
            if not lines and self._file is not None and self._was_rotated(self._file):
                self._file.close()
                self._file = None
                lines += self._read()
        return lines

    def read_rest(self) -> list[str]:
        """See Log."""
        rest, self._rest = self._rest, ""
        return [rest] if rest else []

    def _read(self) -> list[str]:
        if self._file is None:
            self._file = self._path.open(encoding="utf-8", errors="replace")
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        return lines

    def _was_rotated(self, file: TextIO) -> bool:
        """Whether another file has taken the name."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_ino != os.fstat(file.fileno()).st_ino
        return False


class StoredLog:
    """The log that a node ships into the store."""

    def __init__(self, reader: SegmentReader) -> None:
        self._reader = reader
        self._lines = Lines()
        self._first: bytes | None = None

    def exists(self) -> bool:
        """Whether anything of it is stored."""
        self._first = self._reader.read_new()
        return bool(self._first)

    def read_new(self) -> list[str]:
        """See Log."""
        first, self._first = self._first or b"", None
        return self._lines.feed(first + self._reader.read_new())

    def read_rest(self) -> list[str]:
        """See Log."""
        return self._lines.close()


class UnspokenLog:
    """A machine whose agent has not spoken: what it printed on its console, and then what its agent says."""

    def __init__(self, printed: str, stored: StoredLog) -> None:
        self._lines = ["[kubeq: its agent has said nothing yet; this is the console of its machine]"]
        self._lines += printed.splitlines()
        self._stored = stored

    def read_new(self) -> list[str]:
        """See Log."""
        lines, self._lines = self._lines, []
        return [*lines, *self._stored.read_new()]

    def read_rest(self) -> list[str]:
        """See Log."""
        return self._stored.read_rest()


class _Output:
    """What an attempt that began on the node prints."""

    def __init__(self, session: Session, task: TaskId, number: int) -> None:
        self._reader = LogReader(session.store, session.outputs, task, number)
        self._lines = Lines()
        self._task = task
        self._number = number

    @property
    def finished(self) -> bool:
        return self._reader.finished

    def read_new(self) -> Iterator[Line]:
        """The whole lines that came since the last call."""
        while content := self._reader.read_new():
            yield from _printed(self._task, self._number, self._lines.feed(content))

    def close(self) -> Iterator[Line]:
        """A last line without an end."""
        yield from _printed(self._task, self._number, self._lines.close())


def _printed(task: TaskId, attempt: int, lines: list[str]) -> Iterator[Line]:
    return (Line(text=line, task=task, attempt=attempt) for line in lines)


def _has_left(session: Session, name: NodeName) -> bool:
    """Whether the node says that it has left, or has said nothing for long."""
    row = _row_of(session, name)
    if row is None:
        return False
    return row.state is NodeState.GONE or session.queue.now() - (row.seen_at or 0.0) > SEEN_RECENTLY_S
