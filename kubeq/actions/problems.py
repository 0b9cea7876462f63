"""Collecting what is wrong with a submission's inputs, so that all problems of one kind are named at once."""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.core.table_rules import listing
from kubeq.errors import UsageError


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be wrong: the sentence for one input and for several, and what to do."""

    one: str
    several: str
    hint: str | None = None


MISSING = Kind(
    "this input does not exist", "these inputs do not exist", "check the path; it is relative to where you are"
)
NOTHING_THERE = Kind(
    "there is nothing at this URL",
    "there is nothing at these URLs",
    "check the URL; of a bucket name an object, or a prefix that objects have",
)
MISSING_WORD = Kind(
    "the command stages a file that does not exist",
    "the command stages files that do not exist",
    "a word that begins with '^' names a file to stage; write '^^' for a word that really begins with '^'",
)
MISSING_IN_ROW = Kind(
    "a file that the parameter table names does not exist",
    "files that the parameter table names do not exist",
    "a path in the table is relative to where you are, not to the table",
)
EMPTY_CELL = Kind("a cell that names a file is empty", "cells that name a file are empty", "every row needs its file")
UNREADABLE = Kind("this input cannot be read", "these inputs cannot be read", "check the permissions")
SPECIAL = Kind("this input is not a regular file", "these inputs are not regular files", "copy its content to a file")
DANGLING = Kind("this link leads nowhere", "these links lead nowhere", "remove it, or upload a directory without it")
LEAVING = Kind(
    "this link leads out of the directory that is uploaded",
    "these links lead out of the directories that are uploaded",
    "name its target as an upload of its own: -u TARGET:DST",
)
LOOP = Kind("this link leads back to where it came from", "these links lead back to where they came from")
EMPTY = Kind(
    "this directory holds no file", "these directories hold no file", "a task can make empty directories itself"
)
NO_MATCH = Kind(
    "this pattern matches no file", "these patterns match no file", "hidden files need a pattern with a '.'"
)
OWN = Kind(
    "this directory holds kubeq's own state, which cannot be an input",
    "these directories hold kubeq's own state, which cannot be an input",
    "upload the subdirectories you need",
)
RESERVED = Kind(
    "a destination that begins with '.kubeq' is reserved",
    "destinations that begin with '.kubeq' are reserved",
    "give another one: -u SRC:DST",
)
DESTINATION = Kind("an input cannot be placed", "inputs cannot be placed", "give another destination: -u SRC:DST")
OVERLAY_NAME = Kind(
    "this name in the directory cannot travel",
    "these names in the directory cannot travel",
    "use no control characters, valid UTF-8 in its composed form (NFC), 255 bytes a name and 1000 a path",
)
OVERLAY_LINK = Kind(
    "this link leads out of the directory",
    "these links lead out of the directory",
    "make it a relative one that stays inside, or make it on the node, with ln -s",
)
OVERLAY_SPECIAL = Kind(
    "this entry of the directory is neither a file nor a directory nor a link",
    "these entries of the directory are neither files nor directories nor links",
    "make it on the node by a command",
)
CLASH = Kind("two inputs have one destination", "several inputs have one destination", "give one another: -u SRC:DST")


class Problems:
    """What was found so far, by kind."""

    def __init__(self) -> None:
        self._found: dict[Kind, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: Kind, what: str) -> None:
        """Note one problem; nothing is raised yet."""
        self._found.setdefault(kind, []).append(what)

    def raise_first(self) -> None:
        """Raises UsageError with all problems of the kind that was found first, if there is any."""
        for kind, found in self._found.items():
            raise UsageError(f"{kind.one if len(found) == 1 else kind.several}: {listing(found)}", hint=kind.hint)
