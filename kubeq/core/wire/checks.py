"""What a value in a record of somebody who is not believed may be. Each check gives the value or raises ValueError.

JSON has no types of ours, and Python's reader takes more than JSON: endless numbers, halves of characters.
"""

from __future__ import annotations

import math
from typing import Any

MOST = 2**53
"""Whole numbers beyond this are not the same in every reader of JSON (RFC 8259, section 6)."""


def whole(value: Any, *, least: int = 0, most: int = MOST) -> int:
    """A whole number within bounds."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{shown(value)} is no whole number from {least} to {most}")
    return value


def number(value: Any) -> float:
    """A finite number from 0 to MOST."""
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= MOST:
        raise ValueError(f"{shown(value)} is no number from 0 to {MOST:g}")
    return float(value)


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def text(value: Any, longest: int) -> str:
    """Text of at most so many characters that can be written as UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text")
    if len(value) > longest:
        raise ValueError(f"a text of {len(value)} characters is longer than {longest}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shown(value)} is not valid Unicode") from None
    return value


def shown(value: Any) -> str:
    """The value as an error may show it: short."""
    return ascii(value)[:80]
