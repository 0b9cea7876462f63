"""The node's blob cache: inputs that were fetched and verified once, for every attempt on this machine.

Files are read-only, belong to the agent, and are never handed to a task: what a task gets is a copy. A file that does
not match its name any more (size or time of change) is checked again by its hash and fetched anew if it is wrong.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path

from kubeq.core.digest import Digest
from kubeq.errors import BackendError
from kubeq.store.blobs import Blobs, hash_file


class BlobCache:
    """The cache in a folder. Safe to use from several threads and by several agents."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._root = root
        self._blobs = blobs
        self._trusted: dict[Digest, tuple[int, int]] = {}
        self._locks: defaultdict[Digest, threading.Lock] = defaultdict(threading.Lock)

    def path_of(self, digest: Digest) -> Path:
        """A file with exactly those bytes, fetched if need be. Raises ObjectNotFound, IntegrityError, BackendError."""
        path = self._root / digest.sha256[:2] / str(digest)
        with self._locks[digest]:
            if not self._sound(digest, path):
                self._fetch(digest, path)
        return path

    def _sound(self, digest: Digest, path: Path) -> bool:
        """Whether the cached file is what its name says: by its marks if checked before, else by its hash."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return False
        marks = (status.st_mtime_ns, status.st_ino)
        if status.st_size == digest.size and self._trusted.get(digest) == marks:
            return True
        if status.st_size != digest.size or hash_file(path) != digest:
            path.unlink(missing_ok=True)
            return False
        self._trusted[digest] = marks
        return True

    def _fetch(self, digest: Digest, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._blobs.download(digest, path)
            path.chmod(0o400)
            status = path.lstat()
        except OSError as error:
            raise BackendError(
                f"the input {digest} cannot be cached in {self._root}: {os.strerror(error.errno or 0)}", transient=True
            ) from error
        self._trusted[digest] = (status.st_mtime_ns, status.st_ino)
