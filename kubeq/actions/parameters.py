"""Parameter tables from files. What a table may hold is in `core.tables`; here is only how its bytes are got."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from kubeq.core.lines import parse_lines
from kubeq.core.tables import Table, parse_table, product, sequence
from kubeq.errors import UsageError

LARGEST_TABLE = 2**30
"""Bytes. A table is held in memory; ten million rows of a hundred characters have this size."""


def read_parameters(files: Sequence[Path], numbers: str | None, lines: BinaryIO | None = None) -> Table | None:
    """The product of all `--params` files, `--seq` and the lines of `--stdin`; None when there is none of them.

    Raises UsageError.
    """
    tables = [read_table(path) for path in files]
    if numbers is not None:
        tables.append(sequence(numbers))
    if lines is not None:
        tables.append(read_lines(lines))
    return product(tables) if tables else None


def read_lines(stream: BinaryIO) -> Table:
    """The tasks that come from a pipe, to its end. Raises UsageError."""
    content = stream.read(LARGEST_TABLE + 1)
    if len(content) > LARGEST_TABLE:
        raise UsageError(f"stdin holds more than {LARGEST_TABLE:,} bytes", hint="split it into several jobs")
    return parse_lines(content, "stdin")


def read_table(path: Path) -> Table:
    """The table in a file, which may be a pipe (`<(command)`). Raises UsageError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_TABLE + 1)
    except FileNotFoundError:
        raise UsageError(f"the parameter table {str(path)!r} does not exist", hint="check the path") from None
    except IsADirectoryError:
        raise UsageError(f"the parameter table {str(path)!r} is a directory", hint="name a file in it") from None
    except OSError as error:
        raise UsageError(
            f"the parameter table {str(path)!r} cannot be read: {error.strerror}",
            hint="name a csv, tsv or jsonl file that you may read",
        ) from error
    if len(content) > LARGEST_TABLE:
        raise UsageError(
            f"the parameter table {str(path)!r} is larger than {LARGEST_TABLE:,} bytes",
            hint="keep what is large in files, and name them in the table: ^{column}",
        )
    return parse_table(content, str(path))
