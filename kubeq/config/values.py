"""How each kind of value is written. A parser takes the text and the place it stands in, and raises UsageError."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeq.core.hooks import HINT, HookKind, parse_hook
from kubeq.core.names import JOB_NAME, JOB_NAME_RULE, RESERVED_NAMES
from kubeq.core.quantities import parse_duration, parse_size
from kubeq.core.resources import Resources, parse_cpu, parse_memory, parse_resources
from kubeq.core.tables import sequence
from kubeq.errors import UsageError
from kubeq.queue import open as queues
from kubeq.store import open as stores

SHORTEST_TERM_S = 0.5
"""Shorter leases than this run out between two renewals on a busy machine."""
_CREDENTIALS = re.compile(r"//[^/?#]*@")
_WORDS = dict.fromkeys(("yes", "y", "true", "on", "1"), True) | dict.fromkeys(("no", "n", "false", "off", "0"), False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: what its relative paths start from, whose home `~` is, and the environment around it."""

    base: Path
    home: Path
    environ: Mapping[str, str] = field(repr=False)


Parser = Callable[[str, Place], Any]


def text(word: str, place: Place) -> str:
    """Any text but none."""
    if not word:
        raise UsageError("it has no value", hint="leave the key out to have its default")
    return word


def shell_line(word: str, place: Place) -> str:
    """What `/bin/sh -c` takes."""
    if not word.strip() or "\0" in word:
        raise UsageError(f"{word!r} is no shell line", hint="leave it out to run nothing")
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{word!r} is not valid UTF-8") from error
    return word


def choice(*choices: str) -> Parser:
    """One of these words."""

    def parse(word: str, place: Place) -> str:
        if word not in choices:
            raise UsageError(f"{word!r} is none of its values", hint=f"the values are {', '.join(choices)}")
        return word

    return parse


def flag(word: str, place: Place) -> bool:
    """yes or no."""
    if word.lower() not in _WORDS:
        raise UsageError(f"{word!r} is neither yes nor no", hint="write yes or no")
    return _WORDS[word.lower()]


def whole(least: int, most: int) -> Parser:
    """A whole number within bounds."""

    def parse(word: str, place: Place) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", word) or not least <= int(word) <= most:
            raise UsageError(
                f"{word!r} is no whole number from {least} to {most}",
                hint=f"write digits only, for instance {least + 2}",
            )
        return int(word)

    return parse


def duration(word: str, place: Place) -> float:
    """Seconds."""
    return parse_duration(word)


def term(word: str, place: Place) -> float:
    """Seconds, not too few for a lease."""
    seconds = parse_duration(word)
    if seconds < SHORTEST_TERM_S:
        raise UsageError(f"{word!r} is too short", hint=f"the least is {SHORTEST_TERM_S:g}s; the default is 120s")
    return seconds


def size(word: str, place: Place) -> int:
    """Bytes."""
    return parse_size(word)


def cpu(word: str, place: Place) -> float:
    """Cores."""
    return parse_cpu(word)


def memory(word: str, place: Place) -> int:
    """Bytes."""
    return parse_memory(word)


def resources(word: str, place: Place) -> str:
    """`cpu=1,memory=2G,gpu=1` as written; what is left out comes from the defaults, later."""
    parse_resources(word, Resources())
    return word


def path(word: str, place: Place) -> Path:
    """An absolute path."""
    if not word or "\0" in word:
        raise UsageError(f"{word!r} is no path")
    if word == "~" or word.startswith("~/"):
        return place.home / word[2:]
    return place.base / word


def store_url(word: str, place: Place) -> str:
    """A store's URL, of a kind that exists."""
    _refuse_credentials(word)
    if "://" not in word and not word.startswith("memory:"):
        raise UsageError(f"{word!r} is not a URL", hint=f"for a directory write {path(word, place).as_uri()}")
    stores.reach_of(word)
    return word


def queue_url(word: str, place: Place) -> str:
    """A queue's URL, of a kind that exists; the path after `sqlite:` is made absolute."""
    _refuse_credentials(word)
    scheme, colon, rest = word.partition(":")
    if not colon:
        raise UsageError(f"{word!r} is not a queue's URL", hint="write sqlite:PATH")
    if scheme == "sqlite" and rest and not rest.startswith("/"):
        return f"sqlite:{path(rest, place)}"
    queues.reach_of(word)
    return word


def job_name(word: str, place: Place) -> str:
    """A name that every backend can use."""
    if not JOB_NAME.fullmatch(word) or word in RESERVED_NAMES:
        reason = "is reserved" if word in RESERVED_NAMES else "is no name for a job"
        raise UsageError(f"{word!r} {reason}", hint=f"a name is {JOB_NAME_RULE}")
    return word


def numbers(word: str, place: Place) -> str:
    """`N` or `A-B[:STEP]` as written."""
    sequence(word)
    return word


def hook(word: str, place: Place) -> str:
    """What is run at a job's end, as written, with the path of a Python file absolute and code that can be compiled."""
    found = parse_hook(word)
    if found.kind is not HookKind.PYTHON:
        return f"{found.kind}: {found.argument}"
    file = path(found.argument, place)
    try:
        if file.is_file():
            return f"{found.kind}: {file}"
    except OSError:  # it is no path at all: too long, for instance
        pass
    if found.argument.endswith(".py") and not found.argument.split()[1:]:
        raise UsageError(f"the hook's file {found.argument!r} does not exist", hint="check the path")
    try:
        compile(found.argument, "--notify", "exec")
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"the hook {word!r} is neither a file nor code of Python: {error}", hint=HINT) from error
    return f"{found.kind}: {found.argument}"


def _refuse_credentials(word: str) -> None:
    if _CREDENTIALS.search(word):
        raise UsageError(
            "the URL holds a user name or a password",
            hint="leave them out; credentials come from the environment or the provider's own files",
        )
