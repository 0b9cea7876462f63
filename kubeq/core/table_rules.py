"""What every parameter table must obey, however it is written: names of columns and limits. Reading is elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from kubeq.errors import UsageError

Row = tuple[str, ...]

MOST_TASKS = 10_000_000
"""A job of more tasks is a slip of the finger: at a thousand a second it would be submitted for three hours."""
MOST_COLUMNS = 10_000
LONGEST_CELL = 2**20
"""Characters in one cell. A command's whole argument vector ends at 2 MiB on Linux (ARG_MAX, execve(2))."""
SHOWN = 10
"""So many problems of one kind are named; the rest is a count."""
_BROKEN_NAME = re.compile(r"[\x00-\x1f\x7f{}]")


def check_columns(columns: Sequence[str], name: str) -> None:
    """Raises UsageError for names that are empty, twice there, broken or too many, all of a kind at once."""
    if len(columns) > MOST_COLUMNS:
        raise UsageError(f"{name} has {len(columns):,} columns; the limit is {MOST_COLUMNS:,}")
    empty = [str(number) for number, column in enumerate(columns, 1) if not column.strip()]
    if empty:
        raise UsageError(f"{name} has a column without a name: number {listing(empty)}", hint="name every column")
    twice = repeated(columns)
    if twice:
        raise UsageError(f"{name} has the {quoted_columns(twice)} more than once", hint="rename one of them")
    broken = [column for column in columns if _BROKEN_NAME.search(column)]
    if broken:
        raise UsageError(
            f"{name} has the {quoted_columns(broken)}, with a brace or a control character in the name",
            hint="rename it to letters, digits and '_'; an unclosed quote in the first line also looks like this",
        )


def listing(problems: Sequence[str]) -> str:
    """The first ten, then a count of the rest."""
    shown = ", ".join(problems[:SHOWN])
    return shown if len(problems) <= SHOWN else f"{shown} and {len(problems) - SHOWN:,} more"


def repeated(names: Sequence[str]) -> list[str]:
    """The names that are there more than once, in order."""
    return [name for name, times in Counter(names).items() if times > 1]


def quoted_columns(names: Sequence[str]) -> str:
    """`column 'x'` or `columns 'x', 'y'`."""
    return f"column{'s' if len(names) > 1 else ''} {listing([repr(name) for name in names])}"
