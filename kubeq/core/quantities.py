"""Sizes, durations and counts: how they are typed and how they are shown.

A bare duration is seconds. `M` is 10^6 and `Mi` is 2^20; a trailing `B` changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from kubeq.errors import UsageError

_SIZE = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*([kKMGTP]?)(i?)[bB]?", re.ASCII)
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_DURATION_S = 10 * 365 * 86400.0
"""Ten years: longer than any machine lives; a larger number is a slip of the finger."""
LARGEST_SIZE = 2**63 - 1
"""The largest file size that any file system or backend of today can state."""


def parse_size(text: str) -> int:
    """Bytes, at least 1. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"{text!r} is not a size", hint="write 500M (10^6), 512Mi (2^20), 2G or 2Gi")
    unit: int = (1024 if match[3] else 1000) ** _POWERS[match[2]]
    size = round(Fraction(match[1]) * unit)
    if not 1 <= size <= LARGEST_SIZE:
        raise UsageError(f"the size {text!r} is out of range", hint="it must be at least 1 byte")
    return size


def parse_duration(text: str) -> float:
    """Seconds, more than 0. Raises UsageError."""
    word = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", word, re.ASCII):
        seconds = float(word)
    else:
        parts = _DURATION_PART.findall(word)
        if not parts or "".join(number + unit for number, unit in parts) != word:
            raise UsageError(f"{text!r} is not a duration", hint="write 90 (seconds), 90s, 5m, 1h30m or 2d")
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= LONGEST_DURATION_S:
        raise UsageError(f"the duration {text!r} is out of range", hint="it must be more than 0 and below ten years")
    return seconds


def format_size(size: float) -> str:
    """`1.5 MB`: decimal units, as file managers and cloud bills have them."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} PB"


def format_duration(seconds: float) -> str:
    """`0.4s`, `12s`, `3m05s`, `2h10m`, `3d4h`: two units at most."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def format_counts(counts: Mapping[str, int]) -> str:
    """`1,200 PutItem, 4 Query`: the most first; `none` for nothing."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{number:,} {kind}" for kind, number in ordered) or "none"
