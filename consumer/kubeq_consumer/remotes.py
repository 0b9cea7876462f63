"""Inputs that are no blobs of the store: fetched from where they are, kept in the node's cache like all others.

A fetched file is cached under its digest, which is known only then; a small file beside says which digest the bytes of
that URL with that pin have. So a second task on the node costs nothing, and what lies in the cache is checked by its
hash as everything else is.

A source that is out of reach is the task's trouble and not the node's: no other task has to wait for it. What another
task has stored lies in the node's own store, whose trouble is the node's, as it is with every input.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kubeq.core.digest import Digest
from kubeq.core.manifest import Remote
from kubeq.errors import BackendError, IntegrityError, UsageError
from kubeq.store.copying import copy_hashed, read_into
from kubeq.store.disk import disk_errors
from kubeq.store.result_source import SCHEME
from kubeq.store.sources import Opener, changed, shown
from kubeq_consumer.blobcache import BlobCache

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FOLDER = "pins"
"""Inside the folder of the cache, which treats what is in there as it treats its files: the least used go first."""
_TURNS = 64


class Remotes:
    """Inputs by URL, through the cache in that folder. `opener_of` gives what opens a URL of a manifest.

    Safe to use from several threads and by several agents.
    """

    def __init__(self, root: Path, cache: BlobCache, opener_of: Callable[[str], Opener]) -> None:
        self._folder = root / FOLDER
        self._cache = cache
        self._opener_of = opener_of
        self._turns = [threading.Lock() for _ in range(_TURNS)]

    @contextmanager
    def opened(self, remote: Remote) -> Iterator[tuple[BinaryIO, Digest]]:
        """An open, unbuffered file with the pinned bytes, and their digest; it is not evicted meanwhile.

        Raises ObjectNotFound if they are gone, IntegrityError if they have changed, UsageError if they cannot be had,
        BackendError if they cannot be kept, or if it is the node's own store that does not give them.
        """
        note = self._folder / hashlib.sha256(f"{remote.url}\n{remote.pin}\n{remote.size}".encode()).hexdigest()
        with self._turns[int(note.name, 16) % _TURNS]:
            digest = _pinned_digest(remote) or _read(note) or self._fetch_first(remote, note)
        with self._cache.opened(digest, partial(self._fetch, remote, digest)) as file:
            yield file, digest

    def _fetch_first(self, remote: Remote, note: Path) -> Digest:
        """The digest of the bytes, which are in the cache now, and noted."""
        with disk_errors("write", note):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = _temporary(note)
        try:
            digest = self._download(remote, temporary)
            self._cache.adopt(temporary, digest)
            with disk_errors("write", note):
                temporary.write_text(str(digest))
                temporary.replace(note)
        finally:
            with suppress(OSError):
                temporary.unlink()
        return digest

    def _fetch(self, remote: Remote, digest: Digest, path: Path) -> None:
        """Have the bytes at that path again."""
        temporary = _temporary(path)
        try:
            received = self._download(remote, temporary)
            if received != digest:
                raise IntegrityError(
                    f"the input {remote.path} is not what it was: {shown(remote.url)} is {remote.pin} still, "
                    f"but gave {digest} before and {received} now"
                )
            with disk_errors("write", path):
                temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _download(self, remote: Remote, path: Path) -> Digest:
        with disk_errors("write", path, remote.size):
            file = path.open("xb", buffering=0)
        with file, io.BufferedReader(_Source(remote, self._opener_of)) as source:
            digest = copy_hashed(source, file.fileno(), path, remote.size, durable=False)
        if digest.size != remote.size:
            raise changed(remote, f"{digest.size} bytes instead of {remote.size}")
        if _pinned_digest(remote) not in (None, digest):
            raise changed(remote, f"sha256:{digest.sha256}")
        return digest


class _Source(io.RawIOBase):
    """The bytes of a source. What keeps those of a foreign one from us is UsageError, so that it is told from trouble
    of our own disk and store.
    """

    def __init__(self, remote: Remote, opener_of: Callable[[str], Opener]) -> None:
        self._remote = remote
        with self._errors():
            self._connection = opener_of(remote.url).open(remote)
            self._stream = self._connection.__enter__()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with self._errors():
            return read_into(self._stream, memoryview(buffer).cast("B"))

    def close(self) -> None:
        if not self.closed:
            self._connection.__exit__(None, None, None)
        super().close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BackendError as error:
            if self._remote.url.startswith(f"{SCHEME}://"):
                raise
            raise UsageError(
                f"the input {self._remote.path} cannot be fetched: {error.message}", hint=error.hint
            ) from error


def _pinned_digest(remote: Remote) -> Digest | None:
    """The digest that the pin is, if it is one. Raises IntegrityError for one that cannot be."""
    kind, _, value = remote.pin.partition(":")
    try:
        return Digest(value, remote.size) if kind == "sha256" else None
    except ValueError as error:
        raise IntegrityError(f"the input {remote.path} has a pin that is no checksum: {remote.pin}") from error


def _read(note: Path) -> Digest | None:
    """The digest that was noted; None if none was."""
    try:
        digest = Digest.parse(note.read_text())
        os.utime(note)
    except (OSError, ValueError):
        return None
    return digest


def _temporary(path: Path) -> Path:
    return path.with_name(f".kubeq-{os.getpid()}-{secrets.token_hex(8)}")
