"""Text for people from what programs print: bytes that come in arbitrary pieces."""

from __future__ import annotations

import codecs

LONGEST_LINE = 64 * 1024
"""Characters: a longer line is cut in pieces, so that output without line ends cannot fill the memory."""


class Utf8Stream:
    """Text from UTF-8 bytes that come in arbitrary pieces; what is not UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, chunk: bytes) -> str:
        """The text that is complete now; the beginning of a character is kept until its rest comes."""
        return self._decoder.decode(chunk)

    def close(self) -> str:
        """What is left: one U+FFFD if the bytes ended inside a character, else nothing."""
        return self._decoder.decode(b"", final=True)


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


def _last_written(line: str) -> str:
    """A progress bar's last state: what stands after the last carriage return that something follows."""
    return next((part for part in reversed(line.split("\r")) if part), "")
