"""One line for /bin/sh from literal text and values, such that no value can ever become code.

A value is not put into the line: it is a positional parameter of the shell, and the line refers to it. The reference is
quoted to suit the place it stands in, so that `{x}`, `"{x}"`, `'{x}'` and `"$(basename "{x}")"` all give the value as
it is and as part of one word. For that the quoting of the literal text is followed; where this reading is wrong (a
here-document, backquotes inside quotes, a `case` inside `$( )`) a value may be split into words or show its reference,
but it is still never run. What a placeholder is, is in `core.spec`.
"""

from __future__ import annotations

import re

_PLAIN, _DOUBLE, _SINGLE, _COMMENT = "", '"', "'", "#"
_MARKS = {
    _PLAIN: re.compile(r"""\\.|\$?\(|\)|['"]|(?<![^\s;&|()])\#""", re.DOTALL),
    _DOUBLE: re.compile(r"""\\.|\$\(|\"""", re.DOTALL),
    _SINGLE: re.compile("'"),
    _COMMENT: re.compile("\n"),
}


class ShellLine:
    """Collects the pieces of a line in order, then gives the argument vector that runs it."""

    def __init__(self) -> None:
        self._line: list[str] = []
        self._values: list[str] = []
        self._states = [_PLAIN]
        self._previous = "\n"

    def add_text(self, text: str) -> None:
        """Literal shell text, as the user typed it."""
        if text:
            self._follow(text)
            self._line.append(text)

    def add_value(self, value: str) -> None:
        """A value, to be part of one word whatever it holds."""
        self._values.append(value)
        self._previous = "}"
        reference = f"${{{len(self._values)}}}"
        match self._states[-1]:
            case '"':
                self._line.append(reference)
            case "'":
                self._line.append(f"'\"{reference}\"'")
            case _:
                self._line.append(f'"{reference}"')

    def command(self) -> list[str]:
        """`/bin/sh -c LINE sh VALUE...`."""
        line = ["/bin/sh", "-c", "".join(self._line)]
        return [*line, "sh", *self._values] if self._values else line

    def _follow(self, text: str) -> None:
        """Keep `_states` what the shell's would be at the end of the text; the character before it decides on `#`."""
        text = self._previous + text
        self._previous, position = text[-1], 1
        while mark := _MARKS[self._states[-1]].search(text, position):
            position = mark.end()
            match mark[0]:
                case "(" | "$(":
                    self._states.append(_PLAIN)
                case ")":
                    self._states = self._states[:-1] or [_PLAIN]
                case "'" | '"' | "#" if self._states[-1] == _PLAIN:
                    self._states.append(mark[0])
                case "'" | '"' | "\n":
                    self._states.pop()
                case _:
                    pass
