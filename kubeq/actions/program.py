"""What can be told at submission about the program that a command starts: its first word. Reads no file's content.

Whether a program that is not staged exists in the image, only the image knows.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from kubeq.actions.inputs import Inputs
from kubeq.actions.trees import Source
from kubeq.core.spec import JobSpec, destination_of, fill, is_staged, placeholders
from kubeq.core.table_rules import listing
from kubeq.core.tables import Table
from kubeq.errors import UsageError

_ENDS_OF_SHELL_WORDS = " \t\n;|&<>()"


def check_program(spec: JobSpec, inputs: Inputs, table: Table | None, base: Path) -> list[str]:
    """Warnings about the program. Raises UsageError for a staged one that cannot be started: a directory, a file
    without its executable bit.
    """
    if not spec.command:
        return []
    first = spec.command[0]
    if is_staged(first):
        if not spec.shell and spec.entrypoint is None:
            _check_staged(first, inputs, table, base)
    elif not placeholders(first):
        word = first.split(maxsplit=1)[0] if spec.shell and first.strip() else first
        if _is_meant_from_here(word, spec, inputs, base):
            place = os.path.relpath(base / word, base)
            return [f"the program {word!r} is a file here and is not staged, so no task finds it; write '^{place}'"]
    return []


def carets_in_shell(spec: JobSpec) -> list[str]:
    """A warning for a `^path` inside a word of `--shell`, where it means nothing."""
    if not spec.shell:
        return []
    found = [part for word in spec.command for part in _caret_parts(word)]
    if not found:
        return []
    return [
        f"'^' stages a file only as a word's first character; this is none: {listing([repr(part) for part in found])}"
    ]


def _caret_parts(word: str) -> Iterator[str]:
    for letter in _ENDS_OF_SHELL_WORDS:
        word = word.replace(letter, " ")
    yield from (part for part in word.split(" ")[1:] if len(part) > 1 and is_staged(part))


def _check_staged(first: str, inputs: Inputs, table: Table | None, base: Path) -> None:
    sources = {source.destination: source for sources in _all_sources(inputs) for source in sources}
    for path in _staged_paths(first, table):
        source = sources.get(destination_of(path))
        if source is None and (base / path).is_dir():
            raise UsageError(
                f"the program '^{path}' is a directory", hint=f"name a program in it: '^{path.rstrip('/')}/PROGRAM'"
            )
        if source is not None and not source.executable:
            raise UsageError(
                f"the program '^{path}' cannot be started: it is not executable",
                hint=f"chmod +x {source.path}, or name its interpreter: python3 '^{path}'",
            )


def _staged_paths(first: str, table: Table | None) -> Iterator[str]:
    """Every distinct path that the first word comes to."""
    if table is None:
        yield first[1:]
        return
    if not placeholders(first):
        yield fill(first[1:], {})
        return
    rows = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    yield from dict.fromkeys(fill(first[1:], row) for row in rows)


def _all_sources(inputs: Inputs) -> Iterator[Sequence[Source]]:
    yield inputs.shared
    yield from inputs.per_task or ()


def _is_meant_from_here(word: str, spec: JobSpec, inputs: Inputs, base: Path) -> bool:
    """Whether the word names a program that lies here, and that no task has at that place."""
    path = base / word
    if word.startswith("/") and (spec.image is None or base not in path.parents):
        return False  # of this machine, or of the image
    if any(f"{word}/".startswith(f"{mount.target.rstrip('/')}/") for mount in spec.mounts):
        return False
    if "/" not in word and shutil.which(word) is not None:
        return False
    place = posixpath.normpath(posixpath.join(spec.directory, word))
    return _is_file(path) and all(source.destination != place for found in _all_sources(inputs) for source in found)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False
