"""How single values look: times, counts, cells of a table."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from kubeq.cli.output import Output
from kubeq.core.model import NodeName
from kubeq.core.quantities import format_duration

_BREAKS = re.compile(r"[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029]+")
WIDEST_CELL = 60


def iso(at: float | None) -> str | None:
    """ISO 8601 in UTC, as JSON and csv have it."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: float | None) -> str:
    """A time for people, in UTC."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(at: float, now: float) -> str:
    """How long ago that was."""
    return f"{format_duration(max(0.0, now - at))} ago"


def count(number: int, noun: str) -> str:
    """`1 task`, `24 tasks`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def warn_of_orphans(output: Output, names: Collection[NodeName]) -> None:
    """Say that machines of nodes that have left stand there and cost money, if any do."""
    if names:
        still = (
            "machine stands although its node has" if len(names) == 1 else "machines stand although their nodes have"
        )
        output.warn(f"{len(names):,} {still} left, and may cost money: kubeq nodes --orphans")


def one_line(text: object, width: int = WIDEST_CELL) -> str:
    """The text on one line and not wider than that."""
    line = _BREAKS.sub(" ", str(text))
    return line if len(line) <= width else f"{line[: width - 3]}..."


def cell(value: object) -> object:
    """A value as csv has it: nothing for None, words for a list."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return " ".join(map(str, value))
        case _:
            return value


def pairs(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Names and values below each other, indented; a value may have several lines."""
    width = max((len(name) for name, _ in lines), default=0)
    return [
        f"  {name if not number else '':<{width}}  {part}".rstrip()
        for name, value in lines
        for number, part in enumerate(value.split("\n"))
    ]
