"""Lines of tasks, as they come from a pipe: one task a line, its words to be added to the command.

A blank line is no task, and neither is one whose first character is `#`. Words are separated by blanks; quotes and
backslashes mean what they mean to a shell, and nothing else does: `$`, `*` and `;` are letters. The order of the lines
is kept, and lines that are equal are tasks of their own.
"""

from __future__ import annotations

import shlex

from kubeq.core.table_rules import LONGEST_CELL, MOST_TASKS, Row, listing
from kubeq.core.tables import Table, check_text
from kubeq.errors import UsageError

LINE = "line"
"""The column that holds a task's line."""
_QUOTING = frozenset("\"'\\")


def parse_lines(content: bytes, name: str) -> Table:
    """The table of the lines, with the one column `line`. Raises UsageError naming every line that is wrong."""
    check_text(content, name)
    rows: list[Row] = []
    wrong: list[str] = []
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        text = line.removesuffix("\r")
        if not text.strip() or text.startswith("#"):
            continue
        try:
            words_of(text)
        except UsageError as error:
            wrong.append(f"line {number}: {error.message}")
        rows.append((text,))
    if wrong:
        raise UsageError(f"{name} has lines that are no words: {listing(wrong)}", hint="close the quote, or escape it")
    if not rows:
        raise UsageError(f"{name} holds no task", hint="write one a line: seq 10 | kubeq sub --stdin echo")
    if len(rows) > MOST_TASKS:
        raise UsageError(f"{name} has {len(rows):,} lines; a job has at most {MOST_TASKS:,} tasks")
    return Table((LINE,), rows)


def words_of(line: str) -> list[str]:
    """The words of a line. Raises UsageError for a quote that is not closed, or a line beyond all bounds."""
    if len(line) > LONGEST_CELL:
        raise UsageError(f"it has {len(line):,} characters; {LONGEST_CELL:,} is the most")
    if _QUOTING.isdisjoint(line):
        return line.split()
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line[:60]!r}: {str(error).lower()}") from None
