"""Parameter tables: text in, columns and rows out. A row is one task's values, in the order of the columns.

Reading files is in `actions.parameters`; what a placeholder is, is in `core.spec`. The rules of a table:

* csv and tsv: the first line that is not blank names the columns; every further one is a row. Quoted cells, doubled
  quotes and line ends inside quotes are understood in both. Cells are kept exactly as they are, blanks included. A
  blank line is no row; write `""` for an empty cell of a table with one column.
* jsonl: an object a line, all with the same names, in the order of the first. Numbers keep the text they were written
  with, `true` and `false` become these words; null, arrays and objects are refused.
* UTF-8 with or without a byte order mark; line ends LF, CRLF or CR.
* A column's name may be anything that is not empty, holds no brace and no control character. Only a name that is an
  identifier can be asked for by `{name}`; `unusable_columns` tells the others. Names that differ by case are different.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from kubeq.core.csv_rows import parse_csv
from kubeq.core.json_lines import parse_json_lines
from kubeq.core.table_rules import MOST_TASKS, Row, quoted_columns, repeated
from kubeq.errors import UsageError

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEQUENCE = re.compile(r"(0|[1-9][0-9]{0,14})(?:-(0|[1-9][0-9]{0,14})(?::([1-9][0-9]{0,14}))?)?", re.ASCII)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows, with as many values in every row as there are columns. Rows may be computed when asked for."""

    columns: tuple[str, ...]
    rows: Sequence[Row]


class RowView(Sequence[Row]):
    """Rows that are computed from their position: a sequence or a product of millions takes no memory."""

    __slots__ = ("_at", "_count")

    def __init__(self, count: int, at: Callable[[int], Row]) -> None:
        self._count = count
        self._at = at

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, position: int) -> Row: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Row]: ...
    def __getitem__(self, position: int | slice) -> Row | Sequence[Row]:
        if isinstance(position, slice):
            chosen = range(self._count)[position]
            return RowView(len(chosen), lambda index: self._at(chosen[index]))
        return self._at(range(self._count)[position])

    def __iter__(self) -> Iterator[Row]:
        return map(self._at, range(self._count))


def parse_table(content: bytes, name: str) -> Table:
    """The table in a file's bytes, read as the ending of its name says. Raises UsageError naming all problems."""
    check_text(content, name)
    ending = name.rpartition(".")[2].lower()
    if ending == "jsonl":
        columns, rows = parse_json_lines(content.decode("utf-8-sig"), name)
    else:
        columns, rows = parse_csv(content, name, "\t" if ending == "tsv" else ",")
    if len(rows) > MOST_TASKS:
        raise UsageError(f"{name} has {len(rows):,} rows; a job has at most {MOST_TASKS:,} tasks")
    return Table(columns, rows)


def sequence(text: str) -> Table:
    """The table of `N` (1 to N) or `A-B[:STEP]`, with the one column `index`. Raises UsageError."""
    match = _SEQUENCE.fullmatch(text.strip())
    hint = f"write N or A-B[:STEP] in whole numbers, for 1 to {MOST_TASKS:,} tasks"
    if match is None:
        raise UsageError(f"{text!r} is not a sequence of numbers", hint=hint)
    first, last, step = (
        (1, int(match[1]), 1) if match[2] is None else (int(match[1]), int(match[2]), int(match[3] or 1))
    )
    numbers = range(first, last + 1, step)
    if not 1 <= len(numbers) <= MOST_TASKS:
        raise UsageError(f"the sequence {text!r} makes {len(numbers):,} tasks", hint=hint)
    return Table(("index",), RowView(len(numbers), lambda position: (str(numbers[position]),)))


def product(tables: Sequence[Table]) -> Table:
    """Every combination of the tables' rows; the last table varies fastest. Raises UsageError."""
    if len(tables) == 1:
        return tables[0]
    columns = tuple(itertools.chain.from_iterable(table.columns for table in tables))
    twice = repeated(columns)
    if twice:
        raise UsageError(
            f"two parameter tables have the {quoted_columns(twice)}",
            hint="rename it in one of them; a name has one value",
        )
    sizes = [len(table.rows) for table in tables]
    count = math.prod(sizes)
    if count > MOST_TASKS:
        shown = " x ".join(f"{size:,}" for size in sizes)
        raise UsageError(f"the tables make {shown} = {count:,} tasks; a job has at most {MOST_TASKS:,}")

    def at(position: int) -> Row:
        parts: list[Row] = []
        for table, size in zip(reversed(tables), reversed(sizes), strict=True):
            position, index = divmod(position, size)
            parts.append(table.rows[index])
        return tuple(itertools.chain.from_iterable(reversed(parts)))

    return Table(columns, RowView(count, at))


def unusable_columns(table: Table) -> tuple[str, ...]:
    """The columns that no placeholder can ask for, because their names are no identifiers."""
    return tuple(name for name in table.columns if not IDENTIFIER.fullmatch(name))


def empty_cells(table: Table) -> int:
    """How many cells are empty. They are legal, and often a slip in a spreadsheet."""
    return sum(row.count("") for row in table.rows)


def repeated_rows(table: Table) -> int:
    """How many rows repeat an earlier one. Each is a task of its own."""
    return len(table.rows) - len(set(table.rows))


def check_text(content: bytes, name: str) -> None:
    """Raises UsageError with the place of the first byte that is no UTF-8 text."""
    hint = "save it as UTF-8"
    if content.startswith(_UTF16):
        raise UsageError(f"{name} is encoded in UTF-16 (byte offset 0)", hint=hint)
    zero = content.find(b"\0")
    if zero >= 0:
        raise UsageError(f"{name} holds a zero byte at byte offset {zero:,}: it is binary or not UTF-8", hint=hint)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise UsageError(
            f"{name} is not valid UTF-8: byte 0x{byte:02x} at byte offset {error.start:,}",
            hint=f"{hint} (it may be Latin-1 or Windows-1252 now)",
        ) from error
