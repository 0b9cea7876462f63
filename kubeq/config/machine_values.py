"""How what machines of a cloud are made from is written: places, resources, labels and disks."""

from __future__ import annotations

import os
import re

from kubeq.config.values import Place
from kubeq.core.machines import Volume
from kubeq.core.quantities import parse_size
from kubeq.errors import UsageError

_PLACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)
_RESOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:/+=-]{0,255}", re.ASCII)
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}", re.ASCII)
"""As Google has labels (Compute Engine documentation, "Requirements for labels"); AWS takes more than that."""


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
