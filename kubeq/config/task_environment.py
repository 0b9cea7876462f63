"""The variables that a task's command gets from `--env-file` and `--env`; kubeq's own are added by the agent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from kubeq.config.container_values import variable
from kubeq.config.keys import Config
from kubeq.config.values import Place
from kubeq.errors import UsageError

LARGEST_FILE = 2**20
_LINE_END = re.compile(r"\r\n|\r|\n")


def task_environment(config: Config) -> tuple[tuple[str, str], ...]:
    """The pairs, each name once: a later file goes over an earlier one, and `env` over all files. Raises UsageError."""
    pairs: dict[str, str] = {}
    for path in config.env_file:
        pairs.update(_read(path, config.place))
    pairs.update(config.env)
    return tuple(pairs.items())


def _read(path: Path, place: Place) -> dict[str, str]:
    """`NAME=VALUE` or `NAME` a line, as Docker reads such files: no quoting, `#` at a line's start is a comment."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise UsageError(
            f"the variables' file {str(path)!r} does not exist", hint="check the path; it is relative to where you are"
        ) from None
    except OSError as error:
        raise UsageError(
            f"the variables' file {str(path)!r} cannot be read: {error.strerror}",
            hint="name a text file that you may read",
        ) from error
    if len(content) > LARGEST_FILE:
        raise UsageError(f"the variables' file {str(path)!r} is larger than {LARGEST_FILE:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the variables' file {str(path)!r} is not valid UTF-8 (byte offset {error.start:,})",
            hint="save it as UTF-8",
        ) from error
    pairs: dict[str, str] = {}
    for number, line in enumerate(_LINE_END.split(text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, value = variable(line.lstrip(), replace(place, base=path.parent))
        except UsageError as error:
            raise UsageError(f"{path}:{number}: {error.message}", hint=error.hint) from error
        pairs[name] = value
    return pairs
