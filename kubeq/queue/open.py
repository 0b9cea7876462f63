"""From a URL to a RecordTable. The one place that knows which queue backends exist; imports one on first use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from kubeq.errors import UsageError
from kubeq.queue.base import RecordTable

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
_CREDENTIALS = re.compile(r"//[^/?#]*@")


def open_table(url: str) -> RecordTable:
    """The table behind the URL; nothing is connected or made yet. Raises UsageError for a URL that names none."""
    match = _URL.fullmatch(url)
    if match is not None and _CREDENTIALS.match(match["rest"]):
        raise UsageError(
            f"the queue URL of scheme {match['scheme']} holds a user name or a password",
            hint="leave them out; credentials come from the cloud's own tools and are never part of a URL",
        )
    if match is None or match["scheme"].lower() not in TABLES:
        shown = repr(match["scheme"] + ":") if match else "without a scheme"
        known = ", ".join(f"{scheme}:" for scheme in sorted(TABLES))
        raise UsageError(
            f"the queue URL {shown} names no kind of queue", hint=f"the known kinds are {known}; write sqlite:PATH"
        )
    return TABLES[match["scheme"].lower()](match["rest"])


def _sqlite(rest: str) -> RecordTable:
    from kubeq.queue.sqlite import SqliteTable

    if rest.startswith("//") and not rest.startswith("///"):
        raise UsageError(
            f"the queue URL 'sqlite:{rest}' names another machine; SQLite files are on this one",
            hint="write sqlite:PATH or sqlite:///ABSOLUTE/PATH",
        )
    path = rest[2:] if rest.startswith("///") else rest
    if not path or path.endswith("/") or "\0" in path:
        raise UsageError(f"the queue URL 'sqlite:{rest}' names no file", hint="write sqlite:PATH")
    return SqliteTable(Path(path).expanduser().absolute())


def _memory(rest: str) -> RecordTable:
    from kubeq.queue.memory import MemoryTable

    if rest.strip("/"):
        raise UsageError(f"the queue URL 'memory:{rest}' has a path, and memory has none", hint="write memory:")
    return MemoryTable()


TABLES: dict[str, Callable[[str], RecordTable]] = {"memory": _memory, "sqlite": _sqlite}
