"""Choosing lines by a regular expression. How bytes become lines is in `core.printed`, reading logs in `logs`."""

from __future__ import annotations

import re

from kubeq.errors import UsageError


def parse_pattern(text: str) -> re.Pattern[str]:
    """The regular expression. Raises UsageError with the place of the mistake."""
    try:
        return re.compile(text)
    except re.error as error:
        place = "" if error.pos is None else f" at character {error.pos + 1}"
        raise UsageError(
            f"{text!r} is not a regular expression: {error.msg}{place}", hint=r"write \( for a literal parenthesis"
        ) from None
    except (OverflowError, RecursionError):
        raise UsageError(f"{text[:40]!r} is too large a regular expression") from None
