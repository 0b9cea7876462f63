"""What a directory holds that is laid on nodes: every file, link and directory below it, with its mode. Nothing is
hashed or sent. It is an overlay (`--overlay DIR`) or a package (`inject`).

Links travel as links and are never followed, so nothing outside of DIR is ever read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeq.actions.problems import OVERLAY_LINK, OVERLAY_NAME, OVERLAY_SPECIAL, OWN, UNREADABLE, Problems
from kubeq.core.digest import Digest
from kubeq.core.manifest import clean_destination
from kubeq.core.overlay import MODES, Laid, leaves
from kubeq.core.table_rules import listing
from kubeq.errors import UsageError

MOST_ENTRIES = 100_000
"""Every node lays all of it before it does anything else; more than this belongs into an image."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something below the directory: its path there, where it is, what it is, and a link's target."""

    path: str
    place: Path
    mode: int
    target: str | None = None

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    def laid(self, digest: Digest | None) -> Laid:
        """How the overlay names it; `digest` is that of a file."""
        mode = 0o777 if self.target is not None else self.mode & MODES
        return Laid(self.path, mode, digest, self.target)


def survey(root: Path, own: Sequence[Path] = (), *, what: str = "overlay", most: int = MOST_ENTRIES) -> list[Item]:
    """All that is below the directory; `own` are kubeq's directories, which it may not hold. `what` it is for.

    Raises UsageError naming all problems of one kind, or if there are more than `most` entries.
    """
    if not root.is_dir():
        why = "is not a directory" if root.exists() else "does not exist"
        raise UsageError(f"the {what} {str(root)!r} {why}", hint="--overlay takes a directory")
    problems = Problems()
    for folder in own:
        if folder.resolve().is_relative_to(root.resolve()):
            problems.add(OWN, repr(str(folder)))
    problems.raise_first()
    items: list[Item] = []
    for item in _walk(str(root), "", problems):
        items.append(item)
        if len(items) > most:
            raise UsageError(f"the {what} {str(root)!r} has more than {most:,} entries", hint="make an image of it")
    problems.raise_first()
    return items


def warnings_of(items: Sequence[Item]) -> list[str]:
    """What the user should know of an overlay, a sentence each."""
    special = [repr(item.path) for item in items if item.target is None and item.mode & 0o7000]
    bits = "the set-user-id, set-group-id and sticky bits of an overlay do not travel"
    return [f"{bits}: {listing(special)}"] if special else []


def _walk(folder: str, path: str, problems: Problems) -> Iterator[Item]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        problems.add(UNREADABLE, repr(folder))
        return
    for entry in found:
        item = _item(entry, f"{path}/{entry.name}" if path else entry.name, problems)
        if item is None:
            continue
        yield item
        if stat.S_ISDIR(item.mode):
            yield from _walk(entry.path, item.path, problems)


def _item(entry: os.DirEntry[str], path: str, problems: Problems) -> Item | None:
    """The entry; None after noting what is wrong with it."""
    try:
        clean = clean_destination(path) == path
    except UsageError:
        clean = False
    if not clean:
        problems.add(OVERLAY_NAME, repr(path))
        return None
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        target = str(Path(entry.path).readlink())
        if leaves(path, target):
            problems.add(OVERLAY_LINK, f"{path!r} (to {target!r})")
            return None
        return Item(path, Path(entry.path), mode, target)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        problems.add(OVERLAY_SPECIAL, repr(path))
        return None
    if stat.S_ISREG(mode) and not os.access(entry.path, os.R_OK, effective_ids=True):
        problems.add(UNREADABLE, repr(entry.path))
        return None
    return Item(path, Path(entry.path), mode)
