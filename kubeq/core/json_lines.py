"""Parameter tables written as JSON lines: an object a line, all with the same names. The rules are in `core.tables`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from kubeq.core.table_rules import LONGEST_CELL, Row, check_columns, listing
from kubeq.errors import UsageError

_LINE_END = re.compile(r"\r\n|\r|\n")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class _Pairs(list[tuple[str, object]]):
    """A JSON object as written: with its order and its repeated names."""


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


def parse_json_lines(text: str, name: str) -> tuple[tuple[str, ...], list[Row]]:
    """The columns and rows. Raises UsageError naming the lines that are wrong and what is wrong with the first."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=_no_constant)
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    problems: list[str] = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        if not line.strip():
            continue
        try:
            pairs = _pairs(decoder, line)
            if not columns:
                columns = tuple(column for column, _ in pairs)
                check_columns(columns, f"{name}, line {number},")
            rows.append(_row(pairs, columns))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise UsageError(
            f"{name} cannot be read as JSON lines: {listing(problems)}",
            hint='write one flat object a line, all with the same names: {"x": 1, "y": "two"}',
        )
    if not rows:
        raise UsageError(f"{name} has no rows", hint="every line is one task's parameters")
    return columns, rows


def _pairs(decoder: json.JSONDecoder, line: str) -> _Pairs:
    try:
        document = decoder.decode(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, _Pairs):
        raise ValueError("not an object")
    if not document:
        raise ValueError("the object is empty")
    return document


def _row(pairs: _Pairs, columns: Sequence[str]) -> Row:
    values = dict(pairs)
    if len(values) != len(pairs):
        counted = Counter(column for column, _ in pairs)
        raise ValueError(f"the name {next(column for column in counted if counted[column] > 1)!r} is there twice")
    missing = [column for column in columns if column not in values]
    if missing:
        raise ValueError(f"no value for {missing[0]!r}")
    if len(values) != len(columns):
        raise ValueError(f"the name {next(column for column in values if column not in columns)!r} is not in the first")
    return tuple(_cell(column, values[column]) for column in columns)


def _cell(column: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        raise ValueError(f'{column!r} is null (write "" for an empty value)')
    if not isinstance(value, str):
        raise ValueError(f"{column!r} is an {'object' if isinstance(value, _Pairs) else 'array'}, not one value")
    if len(value) > LONGEST_CELL:
        raise ValueError(f"{column!r} has more than {LONGEST_CELL:,} characters")
    if "\0" in value or _SURROGATE.search(value):
        raise ValueError(f"{column!r} holds a zero or half a surrogate pair, which no argument can hold")
    return value
