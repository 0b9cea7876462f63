"""The text of a configuration file into sections, with the line of every key. Which keys there are is in `keys`.

The dialect of Python's configparser that kubeque's files are written in, without interpolation: `key = value` or
`key: value`; lines that begin with `#` or `;` are comments; an indented line continues the value above it. Names of
keys are the same with `-` and `_`, and in capitals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kubeq.errors import UsageError

_LINE_END = re.compile(r"\r\n|\r|\n")
_SECTION = re.compile(r"\[\s*([^\]]*?)\s*\]\s*")
_ENTRY = re.compile(r"([^=:\s][^=:]*?)\s*[=:](.*)", re.DOTALL)


@dataclass(slots=True)
class Entry:
    """One key's text and the line it begins on."""

    text: str
    line: int


@dataclass(slots=True)
class Section:
    """One section's keys, in order."""

    name: str
    line: int
    entries: dict[str, Entry] = field(default_factory=dict)


def parse_ini(content: bytes, name: str) -> dict[str, Section]:
    """The sections by name. Raises UsageError naming file and line."""
    sections: dict[str, Section] = {}
    section: Section | None = None
    entry: Entry | None = None
    for number, line in enumerate(_LINE_END.split(_decode(content, name)), 1):
        word = line.strip()
        if not word or word[0] in "#;":
            continue
        if line[0].isspace():
            if entry is None:
                raise UsageError(f"{name}:{number} is indented, and there is no value above it", hint="unindent it")
            entry.text = f"{entry.text}\n{word}".lstrip("\n")
        elif word.startswith("["):
            section, entry = _section(word, number, sections, name), None
        else:
            entry = _entry(word, number, section, name)
    return sections


def _decode(content: bytes, name: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{name} is encoded in UTF-16 (byte offset 0)", hint="save it as UTF-8")
    zero = content.find(b"\0")
    if zero >= 0:
        raise UsageError(f"{name} is no text: it holds a zero byte at byte offset {zero:,}", hint="save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{name}:{line} is not valid UTF-8 (byte offset {error.start:,})", hint="save it as UTF-8"
        ) from error


def _section(word: str, number: int, sections: dict[str, Section], name: str) -> Section:
    match = _SECTION.fullmatch(word)
    if match is None:
        raise UsageError(f"{name}:{number} begins a section and does not end it", hint="write [config]")
    title = " ".join(match[1].split())
    if title in sections:
        raise UsageError(f"{name}:{number} begins [{title}] again; line {sections[title].line} did already")
    sections[title] = Section(title, number)
    return sections[title]


def _entry(word: str, number: int, section: Section | None, name: str) -> Entry:
    match = _ENTRY.fullmatch(word)
    if match is None:
        raise UsageError(f"{name}:{number} has no '=': {word[:60]!r}", hint="write KEY = VALUE")
    if section is None:
        raise UsageError(f"{name}:{number} stands before any section", hint="begin the file with a line [config]")
    key = match[1].lower().replace("-", "_")
    if key in section.entries:
        raise UsageError(
            f"{name}:{number} sets {key!r} again; line {section.entries[key].line} did already", hint="remove one"
        )
    section.entries[key] = Entry(match[2].strip(), number)
    return section.entries[key]
