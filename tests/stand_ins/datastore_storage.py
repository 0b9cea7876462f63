"""What the Datastore emulator keeps: every entity's versions, and the built-in indexes. Knows no requests.

Not safe to use from several threads: the emulator has a lock.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sortedcontainers import SortedList  # type: ignore[import-untyped]

from tests.stand_ins.datastore_values import KEY, Message, Order, Path, Place, Scope, indexed, invalid

KEPT_VERSIONS = 64
"""Of each entity. A snapshot from before what is kept is refused, never answered wrongly."""


class Version(NamedTuple):
    """An entity from one commit to the next; None: it was deleted."""

    number: int
    created: int
    entity: Message | None


class Entry(NamedTuple):
    """A line of an index: as the value sorts (None in the index of keys), then the key."""

    value: Order | None
    path: Path


@dataclass(slots=True)
class Index:
    """One property's index, or the index of keys, of one kind."""

    entries: SortedList[Entry]


class Storage:
    """Entities with their versions. A version is the microsecond of its commit, as in Google's service."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._history: dict[Place, list[Version]] = {}
        self._log: list[tuple[int, Place]] = []
        self._indexes: dict[tuple[Scope, str, str], Index] = {}
        self._forgotten = 0
        self.version = 0

    def tick(self) -> int:
        """The version of the next commit, or of a read of now: later than all before."""
        self.version = max(self.version + 1, int(self._now() * 1_000_000))
        return self.version

    def at(self, place: Place, version: int | None = None) -> Version | None:
        """The entity as it stood then, or stands now; None if there was none."""
        self._require_kept(version)
        for each in reversed(self._history.get(place, ())):
            if version is None or each.number <= version:
                return each if each.entity is not None else None
        return None

    def write(self, place: Place, entity: Message | None, version: int) -> Version:
        """Put an entity in its place, or remove what is there (None)."""
        standing = self.at(place)
        created = standing.created if standing else version
        new = Version(version, created, entity)
        history = self._history.setdefault(place, [])
        history.append(new)
        if len(history) > KEPT_VERSIONS:
            self._forgotten = max(self._forgotten, history[-KEPT_VERSIONS].number)
            del history[:-KEPT_VERSIONS]
        self._log.append((version, place))
        if standing is not None:
            self._unindex(place, standing.entity)
        if entity is not None:
            self._index(place, entity)
        return new

    def entries(
        self, scope: Scope, kind: str, property_name: str, version: int | None, between: tuple[Entry, Entry | None]
    ) -> Iterator[Entry]:
        """The lines of an index from one (inclusive) up to another (exclusive), as they stood then or stand now."""
        index = self._indexes.get((scope, kind, property_name))
        lines = index.entries.irange(*between, inclusive=(True, False)) if index else iter(())
        changed = set() if version is None else self._changed_since(version, scope, kind)
        if not changed:
            yield from lines
            return
        then = {entry for place in changed for entry in self._entries_then(place, property_name, version)}
        unchanged = (entry for entry in lines if Place(scope, entry.path) not in changed)
        first, last = between
        within = (entry for entry in then if first <= entry and (last is None or entry < last))
        yield from sorted([*unchanged, *within])

    def _changed_since(self, version: int, scope: Scope, kind: str) -> set[Place]:
        self._require_kept(version)
        start = bisect_right(self._log, version, key=lambda line: line[0])
        return {place for _, place in self._log[start:] if place.scope == scope and place.kind == kind}

    def _entries_then(self, place: Place, property_name: str, version: int | None) -> Iterator[Entry]:
        then = self.at(place, version)
        if then is None:
            return
        if property_name == KEY:
            yield Entry(None, place.path)
        elif (value := indexed(then.entity).get(property_name)) is not None:
            yield Entry(value, place.path)

    def _index(self, place: Place, entity: Message) -> None:
        for name, entry in _lines(place, entity):
            index = self._indexes.setdefault((place.scope, place.kind, name), Index(SortedList()))
            index.entries.add(entry)

    def _unindex(self, place: Place, entity: Message) -> None:
        for name, entry in _lines(place, entity):
            self._indexes[place.scope, place.kind, name].entries.remove(entry)

    def _require_kept(self, version: int | None) -> None:
        if version is not None and version < self._forgotten:
            raise invalid("The requested snapshot version is too old.")


def _lines(place: Place, entity: Message) -> Iterator[tuple[str, Entry]]:
    yield KEY, Entry(None, place.path)
    for name, value in indexed(entity).items():
        yield name, Entry(value, place.path)
