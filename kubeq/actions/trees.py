"""What a source holds: a file, or all files of a directory with where each is to be placed. Nothing is read or hashed.

The rules: only regular files travel, with their executable bit and nothing else of their mode. A named file or
directory that is a link is followed. Inside a directory a link that stays inside is taken as what it leads to; one that
leaves it, leads nowhere or leads back to where it came from is an error. Hidden files are taken; empty directories are
not, and a directory without any file is an error.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeq.actions.problems import (
    DANGLING,
    DESTINATION,
    EMPTY,
    LEAVING,
    LOOP,
    MISSING,
    OWN,
    RESERVED,
    SPECIAL,
    UNREADABLE,
    Kind,
    Problems,
)
from kubeq.core.manifest import clean_destination
from kubeq.core.table_rules import listing
from kubeq.errors import UsageError

RESERVED_PREFIX = ".kubeq"
MOST_FILES = 1_000_000
"""Files in all inputs of a submission: a manifest of more could not be held in memory by a small node."""
_SECRET = re.compile(
    r"/(?:[^/]*\.env|\.netrc|\.pgpass|\.git-credentials|id_(?:rsa|dsa|ecdsa|ed25519)|\.ssh/id_[^/]*|\.aws/credentials"
    r"|\.docker/config\.json|\.kube/config|\.config/gcloud/[^/]*credentials[^/]*)(?<!\.pub)\Z"
)
"""Files that usually hold keys or passwords."""
_SPECIAL = {
    stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
_Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """One regular file of this machine and where it stands in a task's work directory."""

    path: Path
    destination: str
    executable: bool


@dataclass(frozen=True, slots=True)
class _Folder:
    """A directory on the way: where it is, where it lands, and the directories it was reached through."""

    path: str
    destination: str
    through: frozenset[_Identity]


class Trees:
    """Lists sources and notes what is wrong with them; `own` are kubeq's directories, which no upload may hold."""

    def __init__(self, problems: Problems, own: Sequence[Path] = ()) -> None:
        self._problems = problems
        self._own = own
        self._own_ids: set[_Identity] | None = None
        self._secrets: list[str] = []
        self._left_out: list[str] = []
        self._special_bits: list[str] = []
        self._count = 0

    def warnings(self) -> list[str]:
        """One sentence for each thing that the user should know and that is no error."""
        sentences = {
            "the inputs seem to hold secrets, which every task can read": self._secrets,
            f"left out, because names that begin with '{RESERVED_PREFIX}' are reserved": self._left_out,
            "the set-user-id, set-group-id and sticky bits do not travel": self._special_bits,
        }
        return [
            f"{sentence}: {listing([repr(path) for path in found])}" for sentence, found in sentences.items() if found
        ]

    def sources(self, path: Path, destination: str, origin: str, missing: Kind = MISSING) -> list[Source]:
        """The files of a file or directory; `destination` is clean, or empty for the work directory itself."""
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            self._note_unreachable(error, path, origin, missing)
            return []
        if not stat.S_ISDIR(status.st_mode):
            found = self._file(str(path), destination, status, origin)
            return [found] if found else []
        files = list(self._tree(str(path), destination, status))
        if not files and not self._problems:
            self._problems.add(EMPTY, origin)
        return files

    def _note_unreachable(self, error: OSError | ValueError, path: Path, origin: str, missing: Kind) -> None:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.ELOOP:
            self._problems.add(LOOP, origin)
        elif code in (errno.EACCES, errno.EPERM):
            self._problems.add(UNREADABLE, origin)
        elif code == errno.ENOENT and path.is_symlink():
            self._problems.add(DANGLING, origin)
        else:
            self._problems.add(missing, origin)

    def _tree(self, root: str, destination: str, status: os.stat_result) -> Iterator[Source]:
        real_root = os.path.realpath(root)
        waiting = [_Folder(root, destination, frozenset({_identity(status)}))]
        if self._is_own(status, root):
            return
        while waiting:
            folder = waiting.pop()
            for entry in self._entries(folder.path):
                found = self._visit(entry, folder, real_root)
                if isinstance(found, Source):
                    yield found
                elif found is not None:
                    waiting.append(found)

    def _visit(self, entry: os.DirEntry[str], folder: _Folder, real_root: str) -> Source | _Folder | None:
        """What an entry gives: a file, a directory to look into, or None when it is left out or wrong."""
        place = f"{folder.destination}/{entry.name}" if folder.destination else entry.name
        if not folder.destination and place.startswith(RESERVED_PREFIX):
            self._left_out.append(entry.path)
            return None
        status = self._stat(entry, real_root)
        if status is None:
            return None
        if not stat.S_ISDIR(status.st_mode):
            source = self._file(entry.path, place, status, repr(entry.path))
            if source is not None and _SECRET.search(entry.path):
                self._secrets.append(entry.path)
            return source
        if _identity(status) in folder.through:
            self._problems.add(LOOP, repr(entry.path))
            return None
        if self._is_own(status, entry.path):
            return None
        return _Folder(entry.path, place, folder.through | {_identity(status)})

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self._problems.add(UNREADABLE, repr(folder))
            return []

    def _stat(self, entry: os.DirEntry[str], real_root: str) -> os.stat_result | None:
        """What an entry is, links followed; None after noting what is wrong with it."""
        try:
            if not entry.is_symlink():
                return entry.stat(follow_symlinks=False)
            found = entry.stat()
        except OSError as error:
            self._problems.add(LOOP if error.errno == errno.ELOOP else DANGLING, repr(entry.path))
            return None
        target = os.path.realpath(entry.path)
        if target != real_root and not target.startswith(real_root.rstrip("/") + "/"):
            self._problems.add(LEAVING, f"{entry.path!r} (to {target!r})")
            return None
        return found

    def _file(self, path: str, destination: str, status: os.stat_result, origin: str) -> Source | None:
        mode = status.st_mode
        if not stat.S_ISREG(mode):
            self._problems.add(SPECIAL, f"{origin} ({_SPECIAL.get(stat.S_IFMT(mode), 'of an unknown kind')})")
            return None
        if not os.access(path, os.R_OK, effective_ids=True):
            self._problems.add(UNREADABLE, origin)
            return None
        if destination.startswith(RESERVED_PREFIX):
            self._problems.add(RESERVED, f"{destination!r} ({origin})")
            return None
        try:
            place = clean_destination(destination)
        except UsageError as error:
            self._problems.add(DESTINATION, f"{error.message} ({origin})")
            return None
        self._count += 1
        if self._count > MOST_FILES:
            raise UsageError(f"the inputs have more than {MOST_FILES:,} files", hint="upload an archive of them")
        if mode & 0o7000:
            self._special_bits.append(path)
        return Source(Path(path), place, bool(mode & 0o111))

    def _is_own(self, status: os.stat_result, path: str) -> bool:
        if self._own_ids is None:
            self._own_ids = {_identity(folder.stat()) for folder in self._own if folder.is_dir()}
        if _identity(status) not in self._own_ids:
            return False
        self._problems.add(OWN, repr(path))
        return True


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
