"""The inputs of a submission: from `-u`, `^path` and `^{column}` to files with a place in the work directory.

Nothing is hashed, sent or stored here. How `-u` is written is in `actions.upload_list`, what a directory gives in
`actions.trees`, what a URL names in `actions.url_inputs`. All problems of one kind are named at once, before anything
else happens.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeq.actions.problems import CLASH, DESTINATION, EMPTY_CELL, MISSING_IN_ROW, MISSING_WORD, Problems
from kubeq.actions.trees import Source, Trees
from kubeq.actions.upload_list import Upload, UrlUpload, expand_uploads, is_folder
from kubeq.actions.url_inputs import Look, look_outside, look_up, remotes_of
from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest, Remote, clean_destination
from kubeq.core.spec import destination_of, fill, is_staged, placeholders
from kubeq.core.tables import Table
from kubeq.errors import UsageError
from kubeq.store.sources import shown


@dataclass(frozen=True, slots=True)
class Inputs:
    """What every task gets, and what each task gets besides (None: nothing, for all tasks).

    `per_task[i]` belongs to the task with index i + 1; `remotes` are what every task gets from elsewhere. No
    destination is in two of them, or twice in one. `warnings` are sentences for the user.
    """

    shared: tuple[Source, ...]
    per_task: Sequence[tuple[Source, ...]] | None
    warnings: tuple[str, ...] = ()
    remotes: tuple[Remote, ...] = ()

    def paths(self) -> list[Path]:
        """Every distinct file, in the order of first use."""
        own = (source.path for sources in self.per_task or () for source in sources)
        return list(dict.fromkeys([*(source.path for source in self.shared), *own]))


def collect_inputs(
    uploads: Sequence[str],
    words: Sequence[str],
    table: Table | None,
    base: Path,
    *,
    own: Sequence[Path] = (),
    look: Look = look_outside,
) -> Inputs:
    """The inputs of a submission from its `-u` texts, its command words and its table (None: it does not fan out).

    `base` is the absolute directory that relative paths start from; `own` are the directories of kubeq's state, store
    and caches; `look` says what a URL names. Raises UsageError naming every problem of one kind, BackendError for a
    source that does not answer.
    """
    problems = Problems()
    trees = Trees(problems, own)
    shared = _Places(problems)
    expanded = expand_uploads(uploads, base, problems)
    named = look_up([upload for upload in expanded if isinstance(upload, UrlUpload)], look, problems)
    for upload in expanded:
        if isinstance(upload, UrlUpload):
            found: Iterable[Source | Remote] = remotes_of(upload, named[upload.url], problems)
        else:
            found = _upload(upload, trees, problems)
        for source in found:
            shared.add(source)
    staged = _Staged(base, trees, problems)
    fans_out = table is not None
    per_row = [word[1:] for word in words if fans_out and is_staged(word) and placeholders(word)]
    for word in words:
        if is_staged(word) and word[1:] not in per_row:
            path = fill(word[1:], {}) if fans_out else word[1:]
            for source in staged.word(path):
                shared.add(source)
    per_task = list(staged.rows(per_row, table, shared)) if table is not None and per_row else None
    problems.raise_first()
    return Inputs(shared.sources(), per_task, tuple(trees.warnings()), shared.remotes())


def manifest_of(sources: Iterable[Source], digests: Mapping[Path, Digest], remotes: Iterable[Remote] = ()) -> Manifest:
    """The manifest of sources whose digests are known, and of what is elsewhere."""
    entries = (Entry(source.destination, digests[source.path], source.executable) for source in sources)
    return Manifest.of(entries, remotes)


def _upload(upload: Upload, trees: Trees, problems: Problems) -> list[Source]:
    try:
        destination = _destination(upload)
    except UsageError as error:
        problems.add(DESTINATION, f"{error.message} ({upload.origin})")
        return []
    return trees.sources(upload.path, destination, upload.origin)


def _destination(upload: Upload) -> str:
    """The clean destination; empty for a directory that becomes the work directory itself."""
    if upload.destination is None:
        whole = os.path.normpath(upload.source) == "."
        return "" if whole else destination_of(upload.source)
    folder = "" if os.path.normpath(upload.destination) == "." else clean_destination(upload.destination)
    if upload.inside:
        name = Path(os.path.normpath(upload.source)).name
        return clean_destination(f"{folder}/{name}" if folder else name)
    if not folder and not is_folder(upload.path):
        raise UsageError(f"the destination {upload.destination!r} is a directory")
    return folder


class _Staged:
    """The files that the command's `^` words name."""

    def __init__(self, base: Path, trees: Trees, problems: Problems) -> None:
        self._base = base
        self._trees = trees
        self._problems = problems

    def word(self, path: str) -> list[Source]:
        """The files of `^path`, the same for every task."""
        if not path:
            raise UsageError("the command has the word '^', which names no file", hint="write '^^' for a literal '^'")
        try:
            destination = destination_of(path)
        except UsageError as error:
            self._note_no_place(path, error, repr(f"^{path}"))
            return []
        return self._trees.sources(self._base / path, destination, repr(f"^{path}"), MISSING_WORD)

    def rows(self, templates: Sequence[str], table: Table, shared: _Places) -> Iterator[tuple[Source, ...]]:
        """Each row's own files, without those that are shared anyway."""
        needed = sorted({table.columns.index(name) for template in templates for name in placeholders(template)})
        known: dict[str, list[Source]] = {}
        for number, row in enumerate(table.rows, 1):
            empty = [table.columns[position] for position in needed if not row[position]]
            if empty:
                self._problems.add(EMPTY_CELL, f"row {number}, column {empty[0]!r}")
                continue
            places = _Places(self._problems, shared, f"row {number}: ")
            parameters = dict(zip(table.columns, row, strict=True))
            for template in templates:
                path = fill(template, parameters)
                found = known.get(path)
                if not found:
                    found = known[path] = self._row_files(path, number)
                for source in found:
                    places.add(source)
            yield places.sources()

    def _row_files(self, path: str, number: int) -> list[Source]:
        origin = f"row {number}: {path!r}"
        try:
            destination = destination_of(path)
        except UsageError as error:
            self._note_no_place(path, error, origin)
            return []
        return self._trees.sources(self._base / path, destination, origin, MISSING_IN_ROW)

    def _note_no_place(self, path: str, error: UsageError, origin: str) -> None:
        if os.path.lexists(self._base / path):
            self._problems.add(DESTINATION, f"{error.message} ({origin})")
        else:
            self._problems.add(MISSING_WORD, origin)


class _Places:
    """Which source stands at which destination; a row's places lie over the shared ones."""

    def __init__(self, problems: Problems, below: _Places | None = None, origin: str = "") -> None:
        self._problems = problems
        self._below = below
        self._origin = origin
        self._files: dict[str, Source | Remote] = {}
        self._folders: set[str] = set()

    def sources(self) -> tuple[Source, ...]:
        """What was added of this machine's, without what the places below hold already."""
        return tuple(file for file in self._files.values() if isinstance(file, Source))

    def remotes(self) -> tuple[Remote, ...]:
        """What was added that is elsewhere."""
        return tuple(file for file in self._files.values() if isinstance(file, Remote))

    def add(self, source: Source | Remote) -> None:
        """Place a source, unless the same bytes stand there already; a clash is noted."""
        place = source.destination if isinstance(source, Source) else source.path
        other = self._at(place)
        if other is not None:
            if not _same(source, other):
                self._clash(place, f"{_name(other)} and {_name(source)}")
            return
        if self._is_folder(place):
            self._clash(place, f"a directory, and the file {_name(source)}")
            return
        parent = place.rpartition("/")[0]
        while parent and parent not in self._folders:
            blocking = self._at(parent)
            if blocking is not None:
                self._clash(place, f"below it, and {parent!r} is the file {_name(blocking)}")
                return
            self._folders.add(parent)
            parent = parent.rpartition("/")[0]
        self._files[place] = source

    def _at(self, destination: str) -> Source | Remote | None:
        found = self._files.get(destination)
        return found if found is not None or self._below is None else self._below._at(destination)

    def _is_folder(self, destination: str) -> bool:
        return destination in self._folders or (self._below is not None and self._below._is_folder(destination))

    def _clash(self, place: str, what: str) -> None:
        self._problems.add(CLASH, f"{self._origin}{place!r} ({what})")


def _name(source: Source | Remote) -> str:
    return repr(str(source.path) if isinstance(source, Source) else shown(source.url))


def _same(one: Source | Remote, other: Source | Remote) -> bool:
    if one.executable != other.executable:
        return False
    if isinstance(one, Remote) or isinstance(other, Remote):
        return one == other
    if one.path == other.path:
        return True
    try:
        return filecmp.cmp(one.path, other.path, shallow=False)
    except OSError:
        return False
