"""Parameter tables written as csv or tsv, and what to say when one is broken. The rules are in `core.tables`.

A good table is read once, by the csv module and without a step of ours for each row. Only when it is broken it is read
again, slowly, to find the lines to name.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence

from kubeq.core.table_rules import LONGEST_CELL, Row, check_columns, listing
from kubeq.errors import UsageError


def _lines(content: bytes) -> io.TextIOWrapper:
    """The text line by line, at LF, CRLF and CR, as the csv module wants it; the text as a whole is never built."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")


def parse_csv(content: bytes, name: str, delimiter: str) -> tuple[tuple[str, ...], list[Row]]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(_lines(content), delimiter=delimiter, strict=True)
    try:
        columns = tuple(next(filter(None, reader), ()))
        rows = list(map(tuple, filter(None, reader)))
    except csv.Error as error:
        raise _csv_error(content, name, delimiter, str(error)) from error
    if not columns or not rows:
        raise UsageError(f"{name} has no rows", hint="the first line names the columns, each further one is a task")
    _check_delimiter(columns, delimiter, name)
    check_columns(columns, name)
    if set(map(len, rows)) != {len(columns)}:
        raise _ragged(content, name, delimiter)
    return columns, rows


def _check_delimiter(columns: Sequence[str], delimiter: str, name: str) -> None:
    """A spreadsheet's other separator is guessed and suggested, never applied: cells may hold it rightfully."""
    if len(columns) != 1:
        return
    stem = name.rpartition(".")[0] or name
    remedies = {";": "save it with commas", "\t": f"name it {stem}.tsv", ",": f"name it {stem}.csv"}
    for other, remedy in remedies.items():
        if other != delimiter and other in columns[0]:
            words = {";": "semicolons", "\t": "tabs", ",": "commas"}[other]
            raise UsageError(
                f"{name} has one column only, {columns[0]!r}; its cells seem to be separated by {words}", hint=remedy
            )


def _ragged(content: bytes, name: str, delimiter: str) -> UsageError:
    reader = csv.reader(_lines(content), delimiter=delimiter, strict=True)
    wanted, wrong, first = 0, [], 1
    for row in reader:
        if row and not wanted:
            wanted = len(row)
        elif row and len(row) != wanted:
            wrong.append(f"line {first} has {len(row)}")
        first = reader.line_num + 1
    expected = f"{wanted} cell" if wanted == 1 else f"{wanted} cells"
    return UsageError(
        f"{name} needs {expected} in every row: {listing(wrong)}",
        hint="quote a cell that holds a separator, and write every cell, also the empty ones",
    )


def _csv_error(content: bytes, name: str, delimiter: str, reason: str) -> UsageError:
    """Reads again up to the row that failed, and looks in it for the quote that explains the failure."""
    reader = csv.reader(_lines(content), delimiter=delimiter, strict=True)
    start = 0
    try:
        for _ in reader:
            start = reader.line_num
    except csv.Error:
        pass
    failed = reader.line_num
    record = "".join(itertools.islice(_lines(content), start, failed if "limit" not in reason else None))
    opened, closed = _last_quoted(record, delimiter)
    line = start + 1 + _line_ends(record[:opened])
    if "limit" in reason:
        where = f"line {line}" if opened >= 0 else f"line {start + 1}"
        return UsageError(
            f"{name} has a cell of more than {LONGEST_CELL:,} characters, which begins on {where}",
            hint="close its quote, or keep the content in a file and name that",
        )
    if not closed:
        return UsageError(f"{name} has a quote on line {line} that is never closed", hint='write " inside quotes as ""')
    return UsageError(
        f"{name} has text right after the quoted cell that begins on line {line} and ends on line {failed}",
        hint='write " inside quotes as ""; perhaps a quote is missing further up',
    )


def _last_quoted(record: str, delimiter: str) -> tuple[int, bool]:
    """Where the last quoted cell of a broken record begins (-1: there is none), and whether it ends."""
    opened, position = -1, 0
    while (position := record.find('"', position)) >= 0:
        if position and record[position - 1] not in (delimiter, "\n", "\r"):
            position += 1
            continue
        opened = position
        position = _end_of_quoted(record, position + 1)
        if position < 0:
            return opened, False
    return opened, True


def _end_of_quoted(record: str, position: int) -> int:
    while (position := record.find('"', position)) >= 0:
        if record[position + 1 : position + 2] != '"':
            return position + 1
        position += 2
    return -1


def _line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")
