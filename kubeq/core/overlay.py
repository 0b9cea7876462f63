"""Overlay: files to lay onto a node's own file system, at the same paths below its root. Canonically encoded.

Unlike a manifest it knows modes, directories and links, for what it describes is a piece of a file system. A link is
always relative and stays inside the overlay, and nothing stands below a link: so whoever lays it follows none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubeq.core.digest import Digest
from kubeq.core.manifest import clean_destination
from kubeq.errors import IntegrityError, UsageError, VersionMismatch

SCHEMA = 1
MODES = 0o777
"""Bits of a mode that travel; set-user-ID and its like would give power to a user that only the node knows."""

MOST_HOPS = 40
"""Links on one way; Linux follows no more either (path_resolution(7))."""


@dataclass(frozen=True, slots=True, order=True)
class Laid:
    """One thing at a relative path: a file with its bytes, a link with its target, or (with neither) a directory."""

    path: str
    mode: int = 0o755
    digest: Digest | None = None
    target: str | None = None

    @property
    def is_directory(self) -> bool:
        return self.digest is None and self.target is None


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is laid, sorted by path: a directory stands before what is in it."""

    entries: tuple[Laid, ...] = ()

    @staticmethod
    def of(entries: Iterable[Laid]) -> Overlay:
        """The overlay of entries in any order. Raises UsageError for what cannot be laid, or not safely."""
        ordered = tuple(sorted(entries, key=lambda entry: entry.path))
        above: set[str] = {entry.path for entry in ordered if not entry.is_directory}
        links = {entry.path: entry.target for entry in ordered if entry.target is not None}
        seen: set[str] = set()
        for entry in ordered:
            if clean_destination(entry.path) != entry.path or entry.path in seen:
                raise UsageError(f"{entry.path!r} is no path of an overlay, or is there twice")
            if entry.mode & ~MODES:
                raise UsageError(f"{entry.path!r} has the mode {entry.mode:o}, which does not travel")
            if entry.target is not None and (leaves(entry.path, entry.target) or leads_out(entry.path, links)):
                raise UsageError(f"the link {entry.path!r} leads out of the overlay")
            seen.add(entry.path)
            parent = entry.path.rpartition("/")[0]
            while parent:
                if parent in above:
                    raise UsageError(f"{entry.path!r} stands below {parent!r}, which is no directory")
                parent = parent.rpartition("/")[0]
        return Overlay(ordered)

    def encode(self) -> bytes:
        """The one encoding: equal overlays give equal bytes."""
        rows = [[entry.path, entry.mode, entry.digest and str(entry.digest), entry.target] for entry in self.entries]
        return json.dumps({"schema": SCHEMA, "entries": rows}, ensure_ascii=False, separators=(",", ":")).encode()

    @staticmethod
    def decode(content: bytes) -> Overlay:
        """The overlay from its bytes. Raises IntegrityError for anything that `encode` did not write."""
        try:
            document = json.loads(content)
            if document["schema"] > SCHEMA:
                raise VersionMismatch(
                    f"an overlay has schema {document['schema']}; this kubeq reads up to {SCHEMA}",
                    hint="install a newer kubeq",
                )
            return Overlay.of(
                Laid(path, int(mode), None if digest is None else Digest.parse(digest), target)
                for path, mode, digest, target in document["entries"]
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError) as error:
            raise IntegrityError(f"an overlay cannot be read: {error}") from error

    @property
    def digests(self) -> set[Digest]:
        """The bytes of its files."""
        return {entry.digest for entry in self.entries if entry.digest is not None}


def leaves(path: str, target: str) -> bool:
    """Whether a link at that path of an overlay leads out of it, by what its target says."""
    if not target or target.startswith("/") or "\0" in target:
        return True
    depth = path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def leads_out(path: str, links: Mapping[str, str]) -> bool:
    """Whether the link at that path leads out by way of other links; `links` are all of them, by path."""
    come, steps, hops = path.split("/")[:-1], links[path].split("/")[::-1], 0
    while steps and hops <= MOST_HOPS:
        step = steps.pop()
        if step == "..":
            if not come:
                return True
            come.pop()
        elif step not in ("", "."):
            further = links.get("/".join([*come, step]))
            if further is None:
                come.append(step)
            else:
                hops += 1
                steps.extend(further.split("/")[::-1])
    return False
