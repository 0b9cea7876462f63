"""The result document of one attempt: how it is built, and what is believed of one that a node has written.

Pure: bytes in, values out. Where documents and output files stand is in `outputs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest, clean_destination
from kubeq.core.model import Ending, Exit, NodeName, Reason, TaskId, Usage
from kubeq.core.wire import encode_usage
from kubeq.errors import IntegrityError, UsageError, VersionMismatch

SCHEMA = 1
DOCUMENT_LIMIT = 32 * 2**20
"""Bytes of the largest result document: about 150,000 output files."""
_SHOWN = 300
"""Characters of a complaint about what a node wrote; its names may be megabytes long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A name in the work directory that was not stored, and why (a link, a socket, over a limit)."""

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDocument:
    """All that a result document says. Times are epoch seconds; `stdout_size` is None where nothing was stored."""

    task: TaskId
    attempt: int
    parameters: Mapping[str, str]
    command: Sequence[str]
    state: Ending
    reason: Reason | None = None
    message: str | None = None
    exit: Exit | None = None
    usage: Usage | None = None
    node: NodeName
    image_digest: str | None = None
    claimed_at: float
    started_at: float | None = None
    ended_at: float | None = None
    files: Sequence[Entry] = ()
    skipped: Sequence[Skipped] = ()
    stdout_size: int | None = None
    stdout_dropped: int = 0


def result_document(result: ResultDocument) -> dict[str, Any]:
    """The JSON document, files sorted by path. Equal results give equal documents."""
    exit = result.exit
    return {
        "schema": SCHEMA,
        "job": str(result.task.job),
        "task": str(result.task),
        "index": result.task.index,
        "attempt": result.attempt,
        "parameters": dict(result.parameters),
        "command": list(result.command),
        "state": result.state.value,
        "reason": result.reason and result.reason.value,
        "message": result.message,
        "exit": exit and {"code": exit.code, "signal": exit.signal, "out_of_memory": exit.out_of_memory},
        "usage": result.usage and encode_usage(result.usage),
        "node": str(result.node),
        "image_digest": result.image_digest,
        "claimed_at": _time(result.claimed_at),
        "started_at": _time(result.started_at),
        "ended_at": _time(result.ended_at),
        "files": [
            {
                "path": entry.path,
                "sha256": entry.digest.sha256,
                "size": entry.digest.size,
                "executable": entry.executable,
            }
            for entry in sorted(result.files)
        ],
        "skipped": [{"path": skipped.path, "why": skipped.why} for skipped in result.skipped],
        "stdout": None
        if result.stdout_size is None
        else {"size": result.stdout_size, "dropped": result.stdout_dropped},
    }


def encode_result(document: Mapping[str, Any]) -> bytes:
    """The document as text that people can read."""
    # A name or word of the task may hold a lone surrogate; "backslashreplace" writes just JSON's own escape for it.
    return json.dumps(document, ensure_ascii=False, indent=1).encode(errors="backslashreplace") + b"\n"


def decode_result(content: bytes, task: TaskId, attempt: int) -> dict[str, Any]:
    """The checked document of that very attempt. Raises IntegrityError naming the task, or VersionMismatch."""
    what = f"the result document of task {task}, attempt {attempt},"
    try:
        document = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _hostile(task, f"{what} is not JSON: {str(error)[:_SHOWN]}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if type(schema) is not int:
        raise _hostile(task, f"{what} has no schema number")
    if schema > SCHEMA:
        raise VersionMismatch(
            f"{what} has schema {schema}; this kubeq reads up to {SCHEMA}", hint="install a newer kubeq"
        )
    said = [(type(document.get(name)), document.get(name)) for name in ("job", "task", "index", "attempt")]
    if said != [(str, task.job), (str, str(task)), (int, task.index), (int, attempt)]:
        raise _hostile(task, f"{what} is about something else")
    for name, valid in _SHAPE.items():
        if name not in document or not valid(document[name]):
            raise _hostile(task, f"{what} cannot be read: its field {name!r} is missing or wrong")
    try:
        entries_of(document)
    except (UsageError, ValueError, KeyError, TypeError) as error:
        raise _hostile(task, f"{what} cannot be trusted: {str(error)[:_SHOWN]}") from error
    return dict(document)


def entries_of(document: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The output files that a checked document names, sorted; no path twice, none below another, none outside."""
    return Manifest.of(_entry(row) for row in document["files"]).entries


def _entry(row: Mapping[str, Any]) -> Entry:
    path, sha256, size, executable = row["path"], row["sha256"], row["size"], row["executable"]
    if not (isinstance(path, str) and isinstance(sha256, str) and _is_count(size) and isinstance(executable, bool)):
        raise ValueError(f"the output file {path!r} has a field of a wrong kind")
    if clean_destination(path) != path:
        raise ValueError(f"the output file {path!r} should be called {clean_destination(path)!r}")
    return Entry(path, Digest(sha256, size), executable)


def _hostile(task: TaskId, message: str) -> IntegrityError:
    return IntegrityError(message, hint=f"run the task again: kubeq reset {task}")


def _time(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_exit(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(value.get(name) is None or type(value[name]) is int for name in ("code", "signal"))
        and isinstance(value.get("out_of_memory"), bool)
    )


def _is_stdout(value: object) -> bool:
    return isinstance(value, dict) and _is_count(value.get("size")) and _is_count(value.get("dropped"))


def _is_skipped(value: object) -> bool:
    return isinstance(value, dict) and _is_text(value.get("path")) and _is_text(value.get("why"))


def _or_null(valid: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or valid(value)


def _list_of(valid: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(valid, value))


def _map_to(valid: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(valid, value.values()))


_SHAPE: Mapping[str, Callable[[object], bool]] = {
    "parameters": _map_to(_is_text),
    "command": _list_of(_is_text),
    "state": lambda value: _is_text(value) and value in {Ending.SUCCEEDED, Ending.FAILED, Ending.CANCELLED},
    "reason": _or_null(lambda value: _is_text(value) and value in set(Reason)),
    "message": _or_null(_is_text),
    "exit": _or_null(_is_exit),
    "usage": _or_null(_map_to(_is_number)),
    "node": _is_text,
    "image_digest": _or_null(_is_text),
    "claimed_at": _is_time,
    "started_at": _or_null(_is_time),
    "ended_at": _or_null(_is_time),
    "files": _list_of(lambda value: isinstance(value, dict)),
    "skipped": _list_of(_is_skipped),
    "stdout": _or_null(_is_stdout),
}
