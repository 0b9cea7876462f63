"""How what a task's container is given is written: the user, the network, mounts, variables and the like."""

from __future__ import annotations

import os
import re
import shlex

from kubeq.config.values import Place, choice, path
from kubeq.core.manifest import clean_destination
from kubeq.core.spec import Mount, Network
from kubeq.errors import UsageError

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|\d{1,10}(:\d{1,10})?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def network(word: str, place: Place) -> Network:
    """What network a container sees."""
    return Network(choice(*Network)(word, place))


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


def directory(word: str, place: Place) -> str:
    """A directory inside the work directory; `.` is the work directory itself."""
    if word and os.path.normpath(word) == ".":
        return "."
    if not word or word.startswith("/") or ".." in word.split("/"):
        raise UsageError(
            f"{word!r} is no directory below the work directory", hint="write a relative path without '..'"
        )
    return clean_destination(word)


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
