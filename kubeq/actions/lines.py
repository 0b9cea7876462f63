"""Lines for people from bytes that come in arbitrary pieces. Reading logs is in `logs`."""

from __future__ import annotations

import re

from kubeq.errors import UsageError
from kubeq.store.logs import Utf8Stream

LONGEST_LINE = 64 * 1024
"""Characters: a longer line is cut in pieces, so that output without line ends cannot fill the memory."""


class Lines:
    """Whole lines without their ends. What a carriage return would have overwritten on a screen is left out."""

    def __init__(self) -> None:
        self._text = Utf8Stream()
        self._rest = ""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that are complete now."""
        *lines, self._rest = (self._rest + self._text.feed(chunk)).split("\n")
        while len(self._rest) > LONGEST_LINE:
            lines.append(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        return [_last_written(line) for line in lines]

    def close(self) -> list[str]:
        """The last line, if it has no end."""
        last, self._rest = self._rest + self._text.close(), ""
        return [_last_written(last)] if last else []


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


def _last_written(line: str) -> str:
    """A progress bar's last state: what stands after the last carriage return that something follows."""
    return next((part for part in reversed(line.split("\r")) if part), "")
