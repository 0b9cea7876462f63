"""What reaches the screen: stdout is the answer, stderr everything else. The only place that prints.

A command makes a View of its answer; the Output of the chosen mode shows it. Text is for people, JSON is one value (or
one a line for streams), csv is for tables, quiet is ids only. Control characters of what tasks print are neutralised
on a terminal.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from kubeq.errors import KubeqError, UsageError

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Mode(StrEnum):
    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    QUIET = "quiet"


class View(Protocol):
    """An answer that can be shown in every mode."""

    def text(self) -> Iterable[str]:
        """Lines for people."""
        ...

    def json(self) -> Mapping[str, Any]:
        """The value, without the schema number, which the output adds."""
        ...

    def quiet(self) -> Iterable[str]:
        """Ids, one a line."""
        ...


class TableView(View, Protocol):
    """A View that is a table, and so can be shown as csv."""

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """The header and the rows."""
        ...


class Output:
    """Shows views in one mode on given streams."""

    def __init__(self, mode: Mode, *, color: bool | None = None) -> None:
        self.mode = mode
        self._color = color

    @property
    def on_terminal(self) -> bool:
        """Whether stdout is a person's screen."""
        return sys.stdout.isatty()

    @property
    def live(self) -> bool:
        """Whether a progress display may be drawn: on a terminal's stderr, in text mode."""
        return self.mode is Mode.TEXT and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def colored(self) -> bool:
        """Whether stderr may be coloured."""
        if self._color is not None:
            return self._color
        return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def show(self, view: View) -> None:
        """The answer of a command."""
        match self.mode:
            case Mode.TEXT:
                for line in view.text():
                    print(self.safe(line))
            case Mode.JSON:
                print(json.dumps({"schema": 1, **view.json()}, ensure_ascii=False))
            case Mode.QUIET:
                for line in view.quiet():
                    print(line)
            case Mode.CSV:
                self._show_csv(view)
        sys.stdout.flush()

    def _show_csv(self, view: View) -> None:
        table = getattr(view, "table", None)
        if table is None:
            raise UsageError("this answer is not a table, so it has no csv form", hint="use --output json")
        header, rows = table()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        print(text.getvalue(), end="")

    def note(self, line: str) -> None:
        """Something worth knowing that is not the answer; silent in quiet mode."""
        if self.mode is not Mode.QUIET:
            self._tell(self.safe(line, sys.stderr.isatty()))

    def say(self, line: str) -> None:
        """What the user has asked to be told; in every mode."""
        self._tell(self.safe(line, sys.stderr.isatty()))

    def warn(self, line: str) -> None:
        """Something the user ought to mend; in every mode."""
        self._tell(self.paint("warning: ", "33") + self.safe(line, sys.stderr.isatty()))

    def draw(self, text: str) -> None:
        """A piece of a live display on stderr, with its control codes; nothing where `live` is false."""
        if self.live:
            self._tell(text, end="")

    def raw(self, chunk: bytes) -> None:
        """What a task printed: byte for byte into a file or a pipe, neutralised on a terminal."""
        if self.on_terminal:
            chunk = self.safe(chunk.decode(errors="replace")).encode()
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()

    def error(self, error: KubeqError) -> None:
        """An error, on stderr: one sentence and a hint, or one JSON object."""
        if self.mode is Mode.JSON:
            body = {"code": error.exit_code, "message": error.message, "hint": error.hint}
            self._tell(json.dumps({"schema": 1, "error": body}, ensure_ascii=False))
            return
        self._tell(self.paint("error: ", "31") + self.safe(error.message, sys.stderr.isatty()))
        if error.hint:
            self._tell(self.paint("hint: ", "36") + self.safe(error.hint, sys.stderr.isatty()))

    def forsake_stdout(self) -> None:
        """Whoever read stdout has gone: what is printed from now on goes nowhere, and the command goes on."""
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it stays for the life of the process

    def _tell(self, text: str, end: str = "\n") -> None:
        """A line on stderr. That nobody reads it is no reason to stop."""
        try:
            print(text, end=end, file=sys.stderr, flush=True)
        except BrokenPipeError:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it stays for the life of the process

    def paint(self, text: str, code: str) -> str:
        """The text in an ANSI colour, where colours are wanted."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colored else text

    def safe(self, text: str, on_terminal: bool | None = None) -> str:
        """The text with control characters and direction overrides made visible, if a terminal would obey them."""
        if on_terminal is None:
            on_terminal = self.on_terminal
        return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text) if on_terminal else text


def columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """An aligned table without boxes; the last column is not padded."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
