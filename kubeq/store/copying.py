"""Bytes from a stream into a file, hashed on the way: read once, never held as a whole.

Whether they are the right ones is for the caller to say.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.store.disk import disk_errors

CHUNK = 2**20
"""Bytes read, hashed and written at a time; other threads run meanwhile."""
LARGE = 8 * CHUNK
"""From here on a thread of its own for hashing pays: it saves about a third of the time on a machine with two cores."""
WRITE_BACK = 16 * CHUNK
"""After so many bytes the disk is told to begin, so that the fsync in the end has little left to wait for."""


def copy_hashed(
    source: BinaryIO,
    descriptor: int,
    path: bytes | Path,
    size: int,
    *,
    durable: bool,
    passed: Callable[[int], None] | None = None,
) -> Digest:
    """The digest of what `source` gave, once it all is in the file (and on the disk, if `durable`).

    `size` is how much is expected; reading stops soon after more has come. `path` is for messages, `passed` gets the
    size of each piece. Raises BackendError if the file cannot be written; what `source` raises passes through.
    """
    copied, told = 0, 0
    # Two buffers: one is being hashed while the next piece is read into the other.
    buffer, other = (memoryview(bytearray(min(CHUNK, size + 1))) for _ in range(2))
    with _Hashing(beside=size >= LARGE) as hashing:
        while copied <= size and (count := read_into(source, buffer)):
            hashing.update(buffer[:count])
            copied += count
            with disk_errors("write", path, size):
                _write_all(descriptor, buffer[:count])
                if durable and copied - told >= WRITE_BACK:
                    # Linux begins to write dirty pages out when told that they are not needed, and keeps them.
                    os.posix_fadvise(descriptor, told, copied - told, os.POSIX_FADV_DONTNEED)
                    told = copied
            buffer, other = other, buffer
            if passed is not None:
                passed(count)
    if durable:
        with disk_errors("write", path, size):
            os.fsync(descriptor)
    return Digest(hashing.hexdigest(), copied)


def read_into(source: BinaryIO, buffer: memoryview) -> int:
    """How many bytes were read into the buffer; 0 at the end. At most one read of what lies below the stream.

    So an error loses nothing that was read before it. Makes no copy where the stream can do without.
    """
    if isinstance(source, io.BufferedIOBase):
        return source.readinto1(buffer)
    if isinstance(source, io.RawIOBase):
        return source.readinto(buffer) or 0
    chunk = source.read(len(buffer))
    buffer[: len(chunk)] = chunk
    return len(chunk)


def _write_all(descriptor: int, chunk: memoryview) -> None:
    written = os.write(descriptor, chunk)
    while written < len(chunk):
        written += os.write(descriptor, chunk[written:])


class _Hashing:
    """A sha256, computed `beside` the caller's own work if asked: `update` returns when the piece before is hashed."""

    def __init__(self, *, beside: bool) -> None:
        self._hasher = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1) if beside else None
        self._piece: Future[None] | None = None

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def update(self, piece: memoryview) -> None:
        if self._thread is None:
            self._hasher.update(piece)
            return
        if self._piece is not None:
            self._piece.result()
        self._piece = self._thread.submit(self._hasher.update, piece)

    def hexdigest(self) -> str:
        """Of all pieces, once the block has been left."""
        return self._hasher.hexdigest()
