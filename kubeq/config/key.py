"""What a key of the configuration is: how it is read, what it is without being set, what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeq.config import container_values
from kubeq.config.clouds import Found
from kubeq.config.values import Parser, Place

VARIABLE_PREFIX = "KUBEQ_"


@dataclass(frozen=True, slots=True)
class Derived:
    """A default that follows from other values: in words, and as what would be typed (None: no value).

    A Found is no default for a reader: it has an origin of its own.
    """

    words: str
    of: Callable[[Place, Mapping[str, Any]], str | Found | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One thing that can be set. `default` is what would be typed; None means that there is no value.

    `many`: it takes several values, a line each; `commas`: they may also be separated by commas or spaces.
    """

    name: str
    attribute: str
    parse: Parser
    default: str | Derived | None
    help: str
    many: bool
    commas: bool
    in_environment: bool
    secret: bool

    def items(self, text: str) -> tuple[str, ...]:
        """What somebody wrote, one value each."""
        if not self.many:
            return (text,)
        lines = re.split(r"[\s,]+", text) if self.commas else text.splitlines()
        return tuple(line.strip() for line in lines if line.strip())

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    @property
    def default_words(self) -> str:
        """The default for a reader; empty when there is none."""
        return self.default.words if isinstance(self.default, Derived) else self.default or ""


def key(
    parse: Parser,
    default: str | Derived | None,
    help: str,
    *,
    name: str = "",
    many: bool = False,
    commas: bool = False,
    in_environment: bool = True,
) -> Any:
    """A field of Config that can be set."""
    secret = parse is container_values.variable
    about = {"parse": parse, "default": default, "help": help, "name": name, "many": many or commas, "secret": secret}
    return field(metadata={"key": about | {"in_environment": in_environment, "commas": commas}}, repr=not secret)
