"""Printing what tasks and nodes have printed: byte for byte into a pipe, as clean lines on a terminal or when lines are
to be chosen, as records in JSON.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubeq.actions.logs import Piece
from kubeq.actions.node_logs import Line
from kubeq.cli.output import Mode, Output
from kubeq.core.clock import Clock
from kubeq.core.model import TaskId
from kubeq.core.printed import Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRules:
    """Which lines are shown, and what stands before them. `tail` None: all."""

    pattern: re.Pattern[str] | None = None
    tail: int | None = None
    timestamps: bool = False
    prefixed: bool = False

    @property
    def plain(self) -> bool:
        """Whether the output is to be shown as it is."""
        return self == LineRules()


@dataclass(frozen=True, slots=True)
class LogView:
    """One value with what each attempt has printed; or, while following, some of it."""

    value: Mapping[str, Any]

    def text(self) -> Iterable[str]:
        return []

    def json(self) -> Mapping[str, Any]:
        return self.value

    def quiet(self) -> Iterable[str]:
        return []


@dataclass(frozen=True, slots=True)
class Source:
    """Whose lines they are: an attempt's of a task, or (attempt 0) a node's; what stands before each in text."""

    name: str
    attempt: int = 0
    prefix: str = ""

    def record(self) -> dict[str, Any]:
        """How JSON names it."""
        return {"task": self.name, "attempt": self.attempt} if self.attempt else {"node": self.name}


class LogPrinter:
    """Shows pieces of output as they come; `close` shows what was held back."""

    def __init__(self, output: Output, clock: Clock, rules: LineRules, *, follow: bool) -> None:
        self._output = output
        self._clock = clock
        self._rules = rules
        self._follow = follow
        self._tail = rules.tail
        self._lines: dict[Source, Lines] = {}
        self._tails: dict[Source, deque[str]] = {}
        self._records: dict[Source, dict[str, Any]] = {}

    def show(self, piece: Piece) -> None:
        """Show what of it can be shown now. An empty piece says that everything that was there has been shown."""
        if not piece.content:
            self.pause()
            return
        if self._as_it_is():
            self._output.raw(piece.content)
            return
        source = Source(str(piece.task.id), piece.attempt, f"[{piece.task.id.index}] " if self._rules.prefixed else "")
        for line in self._lines.setdefault(source, Lines()).feed(piece.content):
            self._take(source, line)

    def begin(self, task: TaskId, attempt: int) -> None:
        """Have a record of that attempt in JSON, also if it has printed nothing."""
        if not self._follow:
            source = Source(str(task), attempt, f"[{task.index}] " if self._rules.prefixed else "")
            self._records[source] = {**source.record(), "lines": []}

    def show_line(self, node: str, line: Line) -> None:
        """Show a line of a node's log, or one that an attempt there has printed, the task before it."""
        if line.task is None:
            self._take(Source(node), line.text)
        else:
            self._take(Source(str(line.task), line.attempt, f"[{line.task}] "), line.text)

    def pause(self) -> None:
        """Everything that was there has been shown: show the last lines that were kept, and from now on every line."""
        tails, self._tails, self._tail = self._tails, {}, None
        for source, tail in tails.items():
            for line in tail:
                self._print(source, line)

    def close(self) -> None:
        """Show last lines without an end, the tails, and the one JSON value."""
        for source, lines in self._lines.items():
            for line in lines.close():
                self._take(source, line)
        self.pause()
        if self._output.mode is Mode.JSON and not self._follow:
            self._output.show(LogView({"logs": list(self._records.values())}))

    def _as_it_is(self) -> bool:
        return self._rules.plain and self._output.mode is not Mode.JSON and not self._output.on_terminal

    def _take(self, source: Source, line: str) -> None:
        if self._rules.pattern is not None and not self._rules.pattern.search(line):
            return
        if self._tail is None:
            self._print(source, line)
        else:
            self._tails.setdefault(source, deque(maxlen=self._tail)).append(line)

    def _print(self, source: Source, line: str) -> None:
        if self._output.mode is Mode.JSON:
            self._record(source, line)
            return
        time = f"{self._now()} " if self._rules.timestamps else ""
        self._output.raw(f"{time}{source.prefix}{line}\n".encode())

    def _record(self, source: Source, line: str) -> None:
        if self._follow:
            self._output.show(LogView({"at": self._now(), **source.record(), "text": line}))
            return
        self._records.setdefault(source, {**source.record(), "lines": []})["lines"].append(line)

    def _now(self) -> str:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
