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


class LogPrinter:
    """Shows pieces of output as they come; `close` shows what was held back."""

    def __init__(self, output: Output, clock: Clock, rules: LineRules, *, follow: bool) -> None:
        self._output = output
        self._clock = clock
        self._rules = rules
        self._follow = follow
        self._tail = rules.tail
        self._job = ""
        self._lines: dict[tuple[int, int], Lines] = {}
        self._tails: dict[tuple[int, int], deque[str]] = {}
        self._records: dict[str, dict[str, Any]] = {}

    def show(self, piece: Piece) -> None:
        """Show what of it can be shown now. An empty piece says that everything that was there has been shown."""
        self._job = piece.task.id.job
        if not piece.content:
            self._release_tails()
            return
        if self._as_it_is():
            self._output.raw(piece.content)
            return
        place = (piece.task.id.index, piece.attempt)
        for line in self._lines.setdefault(place, Lines()).feed(piece.content):
            self._take(str(piece.task.id), place, line)

    def begin(self, task: TaskId, attempt: int) -> None:
        """Have a record of that attempt in JSON, also if it has printed nothing."""
        if not self._follow:
            self._records[str((task.index, attempt))] = {"task": str(task), "attempt": attempt, "lines": []}

    def show_line(self, name: str, line: str) -> None:
        """Show a line of a node's log."""
        self._job = name
        self._take(name, (0, 0), line)

    def close(self) -> None:
        """Show last lines without an end, the tails, and the one JSON value."""
        for place, lines in self._lines.items():
            for line in lines.close():
                self._take(f"{self._job}/{place[0]}", place, line)
        self._release_tails()
        if self._output.mode is Mode.JSON and not self._follow:
            self._output.show(LogView({"logs": list(self._records.values())}))

    def _release_tails(self) -> None:
        """Show the last lines that were kept; from now on every line is shown."""
        tails, self._tails, self._tail = self._tails, {}, None
        for place, tail in tails.items():
            for line in tail:
                self._print(f"{self._job}/{place[0]}" if place[0] else self._job, place, line)

    def _as_it_is(self) -> bool:
        return self._rules.plain and self._output.mode is not Mode.JSON and not self._output.on_terminal

    def _take(self, name: str, place: tuple[int, int], line: str) -> None:
        if self._rules.pattern is not None and not self._rules.pattern.search(line):
            return
        if self._tail is None:
            self._print(name, place, line)
        else:
            self._tails.setdefault(place, deque(maxlen=self._tail)).append(line)

    def _print(self, name: str, place: tuple[int, int], line: str) -> None:
        if self._output.mode is Mode.JSON:
            self._record(name, place, line)
            return
        time = f"{self._now()} " if self._rules.timestamps else ""
        prefix = f"[{place[0]}] " if self._rules.prefixed else ""
        self._output.raw(f"{time}{prefix}{line}\n".encode())

    def _record(self, name: str, place: tuple[int, int], line: str) -> None:
        what = {"task": name, "attempt": place[1]} if place[0] else {"node": name}
        if self._follow:
            self._output.show(LogView({"at": self._now(), **what, "text": line}))
            return
        record = self._records.setdefault(str(place), {**what, "lines": []})
        record["lines"].append(line)

    def _now(self) -> str:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
