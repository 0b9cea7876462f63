"""How each kind of value is written. A parser takes the text and the place it stands in, and raises UsageError."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from kubeq.core.hooks import HINT, HookKind, parse_hook
from kubeq.core.machines import Volume
from kubeq.core.manifest import clean_destination
from kubeq.core.model import NAME, NAME_RULE, RESERVED_NAMES
from kubeq.core.quantities import parse_duration, parse_size
from kubeq.core.resources import Resources, parse_cpu, parse_memory, parse_resources
from kubeq.core.spec import Mount, Network
from kubeq.core.tables import sequence
from kubeq.errors import UsageError
from kubeq.queue import open as queues
from kubeq.store import open as stores

SHORTEST_TERM_S = 0.5
"""Shorter leases than this run out between two renewals on a busy machine."""
_CREDENTIALS = re.compile(r"//[^/?#]*@")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|\d{1,10}(:\d{1,10})?", re.ASCII)
_PLACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RESOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:/+=-]{0,255}", re.ASCII)
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}", re.ASCII)
"""As Google has labels (Compute Engine documentation, "Requirements for labels"); AWS takes more than that."""
_WORDS = dict.fromkeys(("yes", "y", "true", "on", "1"), True) | dict.fromkeys(("no", "n", "false", "off", "0"), False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: what its relative paths start from, whose home `~` is, and the environment around it."""

    base: Path
    home: Path
    environ: Mapping[str, str] = field(repr=False)


Parser = Callable[[str, Place], Any]
E = TypeVar("E", bound=StrEnum)


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


def network(word: str, place: Place) -> Network:
    """What network a container sees."""
    return Network(choice(*Network)(word, place))


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


def place_name(word: str, place: Place) -> str:
    """The name of a cloud's project or region; whether there is one of that name, the cloud knows."""
    if not _PLACE_NAME.fullmatch(word):
        raise UsageError(
            f"{word!r} is no name of a project or region", hint="write letters, digits, '-', '_', '.', ':'"
        )
    return word


def resource_name(word: str, place: Place) -> str:
    """The name of something in a cloud; whether there is one, the cloud knows."""
    if not _RESOURCE_NAME.fullmatch(word):
        raise UsageError(f"{word!r} is no name of anything in a cloud", hint="write its name or its id")
    return word


def label(word: str, place: Place) -> str:
    """`NAME=VALUE`."""
    if not _LABEL.fullmatch(word) or word.startswith("kubeq-"):
        raise UsageError(
            f"{word!r} is no label",
            hint="write NAME=VALUE in small letters, digits, '-' and '_'; names with kubeq- are kubeq's own",
        )
    return word


def volume(word: str, place: Place) -> Volume:
    """`PATH:SIZE[:TYPE]`."""
    where, _, rest = word.partition(":")
    amount, _, kind = rest.partition(":")
    if not where.startswith("/") or ".." in where.split("/") or not where.strip("/") or not amount:
        raise UsageError(f"{word!r} is no disk", hint="write PATH:SIZE or PATH:SIZE:TYPE, for instance /scratch:200G")
    return Volume(path=os.path.normpath(where), size=parse_size(amount), kind=place_name(kind, place) if kind else None)


def entrypoint(word: str, place: Place) -> tuple[str, ...]:
    """The words of a command, or none for `image`: keep the image's own."""
    if word == "image":
        return ()
    try:
        words = tuple(shlex.split(word))
    except ValueError as error:
        raise UsageError(f"{word!r} cannot be split into words: {error}") from error
    if not words:
        raise UsageError("it names no command", hint="write a command, or 'image' for the image's own entrypoint")
    return words


def job_name(word: str, place: Place) -> str:
    """A name that every backend can use."""
    if not NAME.fullmatch(word) or word in RESERVED_NAMES:
        reason = "is reserved" if word in RESERVED_NAMES else "is no name for a job"
        raise UsageError(f"{word!r} {reason}", hint=f"a name is {NAME_RULE}")
    return word


def directory(word: str, place: Place) -> str:
    """A directory inside the work directory; `.` is the work directory itself."""
    if word and os.path.normpath(word) == ".":
        return "."
    if not word or word.startswith("/") or ".." in word.split("/"):
        raise UsageError(
            f"{word!r} is no directory below the work directory", hint="write a relative path without '..'"
        )
    return clean_destination(word)


def numbers(word: str, place: Place) -> str:
    """`N` or `A-B[:STEP]` as written."""
    sequence(word)
    return word


def user(word: str, place: Place) -> str:
    """NAME, UID or UID:GID."""
    if not _USER.fullmatch(word):
        raise UsageError(f"{word!r} is no user", hint="write NAME, UID or UID:GID")
    return word


def mount(word: str, place: Place) -> Mount:
    """`SRC:DST[:ro]`."""
    source, _, rest = word.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise UsageError(f"{word!r} is no mount", hint="write SRC:DST or SRC:DST:ro, where DST is an absolute path")
    if ".." in target.split("/") or not target.strip("/"):
        raise UsageError(f"the mount {word!r} has no usable place in the container", hint="write DST without '..'")
    return Mount(source=os.path.normpath(path(source, place)), target=target, read_only=mode == "ro")


def variable(word: str, place: Place) -> tuple[str, str]:
    """`NAME=VALUE`, or `NAME` for the value it has here."""
    name, equals, value = word.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a variable's name", hint="write NAME=VALUE or NAME")
    if name.startswith("KUBEQ_"):
        raise UsageError(
            f"the variable {name} is kubeq's own: names with KUBEQ_ are reserved", hint="give it another name"
        )
    if not equals:
        if name not in place.environ:
            raise UsageError(f"the variable {name} has no value here", hint=f"set it, or write {name}=VALUE")
        value = place.environ[name]
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UsageError(f"the value of the variable {name} is not valid UTF-8 text")
    return name, value


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
