"""From what is typed after `-u` to single sources with a destination: `SRC[:DST]`, globs, and lists of these (`@LIST`).

What a source holds is looked at in `actions.trees`. The rules:

* The text is split at its last colon that is not part of `://` or of a host's port. A file whose own name holds a colon
  is written with its destination: `a:b:a:b`.
* A SRC with `://` is a URL. It lands under its last component; nothing in it is a pattern.
* A relative SRC keeps its path, an absolute one lands under its last component. DST replaces that; a DST that ends in
  `/` is the directory in which a file keeps its name. `.` is the work directory itself, for directories.
* A SRC with `*`, `?` or `[` that is no file's name is a pattern (`**` crosses directories, hidden files are not matched
  by `*`); DST is then the directory for all that it matches.
* `@LIST` names a text file in UTF-8 with one `SRC[:DST]` or `@LIST` a line, relative to the directory of the list.
  Blank lines and lines that begin with `#` are skipped; write `./#x` or `./@x` for such a name. A list counts once.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeq.actions.problems import NO_MATCH, Problems
from kubeq.errors import UsageError

DEEPEST_LIST = 32
LARGEST_LIST = 2**26
"""Bytes: some million paths."""
_COLON = re.compile(r":(?!//)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
"""A URL up to its path: a colon in there is that of a port."""
_GLOB = re.compile(r"[*?\[]")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One source and where the user wants it.

    `path` is where it is, `source` how it was named; `destination` None leaves the place to the rule, `inside` puts it
    under its own name into the directory `destination`. `origin` says in messages where it was asked for.
    """

    path: Path
    source: str
    destination: str | None
    inside: bool
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlUpload:
    """A source by URL and where the user wants it; what it names is not known yet."""

    url: str
    destination: str | None
    origin: str


def expand_uploads(texts: Sequence[str], base: Path, problems: Problems) -> list[Upload | UrlUpload]:
    """The single uploads that `-u` texts stand for, in order. Raises UsageError; patterns without a match are noted."""
    lists = _Lists(problems)
    return [upload for text in texts for upload in lists.expand(text, base, f"-u {text!r}", ())]


def parse_upload(text: str, base: Path, origin: str) -> tuple[str, str | None]:
    """SRC and DST (None when there is none). Raises UsageError for what means nothing, or may mean two things."""
    url = _URL.match(text)
    colons = [match.start() for match in _COLON.finditer(text, url.end() if url else 0)]
    source, destination = (text[: colons[-1]], text[colons[-1] + 1 :]) if colons else (text, None)
    if not source or destination == "":
        what = "destination after the colon" if source else "source"
        raise UsageError(f"{origin} has no {what}", hint="write -u SRC or -u SRC:DST")
    if url is None and destination is not None and os.path.lexists(base / text):
        raise UsageError(
            f"{origin} can mean the file {text!r}, or {source!r} with the destination {destination!r}",
            hint=f"write {text + ':NAME'!r} for the first, {source + ':./' + destination!r} for the second",
        )
    return source, destination


class _Lists:
    """Expands texts, remembering which lists were read already."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._read: set[str] = set()

    def expand(self, text: str, base: Path, origin: str, within: tuple[str, ...]) -> Iterator[Upload | UrlUpload]:
        """What one text stands for; `within` are the lists that it was read from."""
        if "\0" in text:
            raise UsageError(f"{origin} holds a zero byte, which no path has", hint="write -u SRC or -u SRC:DST")
        if text.startswith("@"):
            yield from self._list(text[1:], base, origin, within)
            return
        source, destination = parse_upload(text, base, origin)
        if "://" in source:
            yield UrlUpload(url=source, destination=destination, origin=origin)
            return
        path = base / source
        if not _GLOB.search(source) or os.path.lexists(path):
            inside = destination is not None and destination.endswith("/") and not is_folder(path)
            yield Upload(path=path, source=source, destination=destination, inside=inside, origin=origin)
            return
        matches = sorted(glob.glob(source, root_dir=base, recursive=True))  # noqa: PTH207  (Path.glob takes hidden files)
        if not matches:
            self._problems.add(NO_MATCH, origin)
        for match in matches:
            yield Upload(
                path=base / match,
                source=match,
                destination=destination,
                inside=destination is not None,
                origin=f"{match!r} of {origin}",
            )

    def _list(self, name: str, base: Path, origin: str, within: tuple[str, ...]) -> Iterator[Upload | UrlUpload]:
        if not name:
            raise UsageError(f"{origin} names no list", hint="write -u @LIST, where LIST is a text file")
        path = base / name
        real = os.path.realpath(path)
        if real in within:
            chain = " -> ".join(Path(part).name for part in (*within[within.index(real) :], real))
            raise UsageError(f"{origin}: the list names itself: {chain}", hint="take one of the '@' lines out")
        if len(within) >= DEEPEST_LIST:
            raise UsageError(
                f"{origin}: lists are nested more than {DEEPEST_LIST} deep", hint="name the files directly"
            )
        if real in self._read:
            return
        self._read.add(real)
        folder, named = path.parent, False
        for number, line in enumerate(_LINE_END.split(_read_list(path, origin)), 1):
            if not line.strip() or line.startswith("#"):
                continue
            named = True
            if line.startswith(("-u ", "--upload ")) and not os.path.lexists(folder / line):
                raise UsageError(f"{name}:{number} begins with an option", hint="write SRC or SRC:DST alone")
            yield from self.expand(line, folder, f"{name}:{number} {line!r}", (*within, real))
        if not named:
            raise UsageError(f"{origin}: the list names nothing", hint="write one SRC or SRC:DST a line")


def is_folder(path: Path) -> bool:
    """Whether there is a directory; False also where that cannot be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _read_list(path: Path, origin: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_LIST + 1)
    except FileNotFoundError:
        raise UsageError(
            f"{origin}: the list does not exist", hint="write ./@NAME for a file that is so named"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{origin}: the list cannot be read: {reason}", hint="name a text file") from error
    if len(content) > LARGEST_LIST:
        raise UsageError(f"{origin}: the list is larger than {LARGEST_LIST:,} bytes", hint="upload a directory")
    zero = content.find(b"\0")
    if zero >= 0:
        raise UsageError(f"{origin}: the list holds a zero byte at byte offset {zero:,}", hint="save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{origin}: the list is not valid UTF-8 at byte offset {error.start:,}", hint="save it as UTF-8"
        ) from error
