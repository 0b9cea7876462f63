"""Laying an overlay onto the node's own file system: below `/` for root, else below the agent user's home.

Directories are merged and keep their modes, files and links are replaced as a whole, nothing is deleted. Nothing is
laid through a link of the overlay. The node's own links to directories (`/bin`, `/var/run`) are followed if root or the
agent's user made them and they stay below the root: a system keeps its layout, and nobody else turns a path elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from kubeq.core.overlay import Laid, Overlay
from kubeq.errors import BackendError
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.staging import CHUNK

MOST_LINKS = 40
"""On the way to one directory, as Linux has it (path_resolution(7))."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def own_root() -> Path:
    """What the agent's user may lay things below."""
    return Path("/") if os.geteuid() == 0 else Path.home()


def lay(overlay: Overlay, cache: BlobCache, root: Path, stopped: Callable[[], bool] = lambda: False) -> None:
    """Have all of it below the root. Raises BackendError naming the path that cannot be laid, ObjectNotFound and
    IntegrityError for a file that the store has not or has wrong. What was laid before that stays.

    `stopped` is asked before each entry; where it says so, the rest is left out with a BackendError.
    """
    modes = {entry.path: entry.mode for entry in overlay.entries if entry.is_directory}
    for entry in overlay.entries:
        if stopped():
            raise BackendError(f"{root / entry.path} is not laid any more: the node was told to leave")
        try:
            with _Way(root, modes) as way:
                _lay_one(entry, cache, way)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise BackendError(f"{root / entry.path} cannot be laid: {why}") from error


def _lay_one(entry: Laid, cache: BlobCache, way: _Way) -> None:
    if entry.is_directory:
        way.enter(entry.path.split("/"))
        return
    *parents, name = entry.path.split("/")
    way.enter(parents)
    folder, temporary = way.handle, f".kubeq-{token_hex(6)}"
    try:
        if entry.target is not None:
            os.symlink(entry.target, temporary, dir_fd=folder)
        else:
            _copy(entry, cache, folder, temporary)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _copy(entry: Laid, cache: BlobCache, folder: int, name: str) -> None:
    assert entry.digest is not None
    with cache.opened(entry.digest) as source, os.fdopen(os.open(name, _NEW, 0o600, dir_fd=folder), "wb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), entry.mode)


class _Way:
    """From the root to a directory, opened one by one; `handle` is the directory that it has come to."""

    def __init__(self, root: Path, modes: dict[str, int]) -> None:
        self._root = root
        self._modes = modes
        self._handles = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._links = 0

    def __enter__(self) -> _Way:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            os.close(handle)

    @property
    def handle(self) -> int:
        return self._handles[-1]

    def enter(self, parts: list[str]) -> None:
        """Go there from the root; what is missing is made, with the mode that the overlay has for it."""
        for depth, part in enumerate(parts, 1):
            try:
                os.mkdir(part, self._modes.get("/".join(parts[:depth]), 0o755), dir_fd=self.handle)
                made = True
            except FileExistsError:
                made = False
            self._step(part)
            if made:
                os.fchmod(self.handle, self._modes.get("/".join(parts[:depth]), 0o755))  # whatever the umask is

    def _step(self, part: str) -> None:
        if part == "..":
            if len(self._handles) == 1 and self._root != Path("/"):
                raise OSError(f"a link on the way leads out of {self._root}")
            if len(self._handles) > 1:
                os.close(self._handles.pop())
            return
        target = self._link(part)
        if target is None:
            self._handles.append(os.open(part, _FOLDER, dir_fd=self.handle))
            return
        for step in self._along(target):
            self._step(step)

    def _link(self, part: str) -> str | None:
        """The target of a link of the node's own; None for what is no link."""
        handle = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.handle)
        try:
            status = os.fstat(handle)
            if not stat.S_ISLNK(status.st_mode):
                return None
            self._links += 1
            if self._links > MOST_LINKS:
                raise OSError("there are too many links on the way")
            if status.st_uid not in (0, os.geteuid()):
                raise OSError(f"the link {part!r} on the way belongs to another user")
            return os.readlink("", dir_fd=handle)  # of the very link that was looked at (readlink(2))
        finally:
            os.close(handle)

    def _along(self, target: str) -> Iterator[str]:
        """The steps that a link's target takes, from here or, for an absolute one, from the root."""
        path = Path(target)
        if path.is_absolute():
            if not path.is_relative_to(self._root):
                raise OSError(f"a link on the way leads out of {self._root}")
            while len(self._handles) > 1:
                os.close(self._handles.pop())
            path = path.relative_to(self._root)
        return (part for part in path.parts if part != ".")
