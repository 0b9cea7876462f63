"""Bringing the files of one task into a directory: what is there, what an earlier fetch left, what is to be moved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

from kubeq.actions.confined import Confined, Parts, Walk
from kubeq.core.digest import Digest, digest_of_chunks
from kubeq.core.globs import matches_any
from kubeq.core.manifest import LONGEST_COMPONENT, Entry
from kubeq.core.model import JobId, TaskId
from kubeq.errors import Conflict, KubeqError
from kubeq.store.outputs import Outputs, entries_of
from kubeq.store.parallel import run_parallel
from kubeq.store.results import DOCUMENT_LIMIT, decode_result

STDOUT = "stdout.txt"
RESULT = "result.json"
OURS = "kubeq."
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One attempt of one task; only files that match `results`, where there are any. `prefix` is for a flat fetch."""

    task: TaskId
    attempt: int
    results: tuple[str, ...] = ()
    prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How many files and bytes of the task are there now, and how many files had to be moved for it.

    The result document is not counted; `new` says whether it was written now. `not_stored` is how many files the task
    left besides that could not be stored.
    """

    files: int
    bytes: int
    moved: int
    new: bool
    not_stored: int


@dataclass(frozen=True, slots=True)
class _Names:
    """What the files that kubeq adds are called beside those of a task."""

    stdout: str
    result: str

    @staticmethod
    def beside(entries: Sequence[Entry]) -> _Names:
        taken = {entry.path.partition("/")[0] for entry in entries}
        return _Names(_free(STDOUT, taken), _free(RESULT, taken))


class TaskFetch:
    """The fetch of one task."""

    def __init__(self, outputs: Outputs, confined: Confined, wanted: Wanted) -> None:
        self._outputs = outputs
        self._confined = confined
        self._wanted = wanted
        self._replaceable: dict[Parts, Digest | None] = {}
        self._moved = 0

    def run(self, threads: int = 1) -> Done:
        """Fetch it. Raises ObjectNotFound if the attempt stored nothing, IntegrityError for what cannot be believed,
        Conflict if something else stands where its files belong.
        """
        with self._confined.walk() as walk:
            standing = self._standing(walk)
            same = standing is not None and _is(standing, self._wanted)
            task, attempt = self._wanted.task, self._wanted.attempt
            if standing is not None and same:
                return self._bring(walk, standing, None, threads)
            if standing is not None:
                self._remember(standing)
            content = self._outputs.result_text(task, attempt)
            return self._bring(walk, decode_result(content, task, attempt), content, threads)

    def _bring(self, walk: Walk, document: Document, content: bytes | None, threads: int) -> Done:
        """Have everything that the document names, and then its `content`, unless an earlier fetch has written it."""
        every = entries_of(document)
        names, places = _Names.beside(every), self._places(every)
        chosen = [entry for entry in every if not self._wanted.results or matches_any(entry.path, self._wanted.results)]
        missing = [entry for entry in chosen if not self._is_there(walk, places[entry.path], entry)]
        if threads > 1:
            walk.leave()
            run_parallel([partial(self._move_alone, entry, places[entry.path]) for entry in missing], threads)
        else:
            for entry in missing:
                self._move(walk, entry, places[entry.path])
        self._moved += len(missing)
        stdout = self._bring_stdout(walk, document, names.stdout, content is None)
        self._remove_old(walk, {*places.values(), self._place(names.stdout), self._place(names.result)})
        if content is not None:
            self._make_way(walk, self._place(names.result), Digest.of(content))
            walk.write(self._place(names.result), BytesIO(content), Digest.of(content))
        size = sum(entry.digest.size for entry in chosen) + (stdout or 0)
        files = len(chosen) + (stdout is not None)
        not_stored = len(document["skipped"])
        return Done(files=files, bytes=size, moved=self._moved, new=content is not None, not_stored=not_stored)

    def _bring_stdout(self, walk: Walk, document: Document, name: str, same: bool) -> int | None:
        """The size of the output; None where there is none, or it is not asked for."""
        results, about = self._wanted.results, document["stdout"]
        if about is None or (results and not matches_any(STDOUT, results)):
            return None
        place, size = self._place(name), int(about["size"])
        there = walk.size(place)
        if same and there == size:
            return size
        if there is not None and place not in self._replaceable and not same:
            self._require_same_stdout(walk, place)
            return size
        with self._outputs.open_stdout(self._wanted.task, self._wanted.attempt) as source:
            walk.write_sized(place, source, size)
        self._moved += 1
        return size

    def _require_same_stdout(self, walk: Walk, place: Parts) -> None:
        """An output without a document beside it is what an interrupted fetch left, or somebody else's."""
        with self._outputs.open_stdout(self._wanted.task, self._wanted.attempt) as source:
            if _digest_of(source) != walk.digest(place):
                raise self._in_the_way(place)

    def _is_there(self, walk: Walk, place: Parts, entry: Entry) -> bool:
        size = walk.size(place)
        if size is None:
            return False
        if size == entry.digest.size and walk.digest(place) == entry.digest:
            return True
        self._make_way(walk, place, entry.digest)
        return False

    def _make_way(self, walk: Walk, place: Parts, digest: Digest) -> None:
        """Nothing, if what stands there may be replaced: an earlier fetch wrote it and nobody has changed it since."""
        if walk.size(place) is None:
            return
        standing = walk.digest(place)
        if standing != digest and (place not in self._replaceable or self._replaceable[place] not in (None, standing)):
            raise self._in_the_way(place)

    def _move_alone(self, entry: Entry, place: Parts) -> None:
        with self._confined.walk() as walk:
            self._move(walk, entry, place)

    def _move(self, walk: Walk, entry: Entry, place: Parts) -> None:
        with self._outputs.open_file(self._wanted.task, self._wanted.attempt, entry.path) as source:
            walk.write(place, source, entry.digest, executable=entry.executable)

    def _standing(self, walk: Walk) -> Document | None:
        """The document that an earlier fetch left there. Raises Conflict for one of another job."""
        found: Document | None = None
        name = RESULT
        while (content := walk.read(self._place(name), DOCUMENT_LIMIT)) is not None:
            found = _parse(content) or found
            name = OURS + name
        if found is None:
            return None
        if found["job"] != self._wanted.task.job or found["index"] != self._wanted.task.index:
            raise Conflict(
                f"{self._shown(self._place(RESULT))} belongs to task {found['job']}/{found['index']}",
                hint="fetch into another directory",
            )
        return found

    def _remember(self, standing: Document) -> None:
        """What an earlier fetch of another attempt wrote may be replaced, as long as nobody has changed it."""
        entries = entries_of(standing)
        names, places = _Names.beside(entries), self._places(entries)
        self._replaceable = {places[entry.path]: entry.digest for entry in entries}
        self._replaceable[self._place(names.stdout)] = None
        self._replaceable[self._place(names.result)] = None

    def _remove_old(self, walk: Walk, kept: set[Parts]) -> None:
        for place, digest in self._replaceable.items():
            if place not in kept and walk.size(place) is not None and digest in (None, walk.digest(place)):
                walk.remove(place)

    def _places(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """Where each file goes. Raises Conflict if two of them have one place."""
        places: dict[str, Parts] = {}
        taken: dict[Parts, str] = {}
        for entry in entries:
            place = places[entry.path] = self._place(entry.path)
            if taken.setdefault(place, entry.path) != entry.path:
                raise Conflict(
                    f"{entry.path!r} and {taken[place]!r} would both be called {place[-1]!r}",
                    hint="fetch without --flat, or choose files with --results",
                )
        return places

    def _place(self, path: str) -> Parts:
        if self._wanted.prefix is None:
            return (str(self._wanted.task.index), *path.split("/"))
        name = self._wanted.prefix + path.replace("/", "-")
        if len(name.encode()) > LONGEST_COMPONENT:
            raise Conflict(f"the name {name[:60]!r}... is too long for one file", hint="fetch without --flat")
        return (name,)

    def _in_the_way(self, place: Parts) -> KubeqError:
        return Conflict(
            f"{self._shown(place)} is there already and is another file",
            hint="move it away, or fetch into another directory",
        )

    def _shown(self, place: Parts) -> str:
        return str(self._confined.path.joinpath(*place))


def _parse(content: bytes) -> Document | None:
    """The result document in a file that kubeq may have written; None if it is something else."""
    try:
        document = json.loads(content)
        task = TaskId(JobId(document["job"]), document["index"])
        return decode_result(content, task, document["attempt"])
    except (ValueError, KeyError, TypeError, RecursionError, KubeqError):
        return None


def _is(document: Document, wanted: Wanted) -> bool:
    return bool(document["attempt"] == wanted.attempt)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = OURS + name
    return name


def _digest_of(source: Any) -> Digest:
    return digest_of_chunks(iter(lambda: source.read(2**20), b""))
