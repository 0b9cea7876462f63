"""Bytes from a stream into a file, hashed on the way: read once, never held as a whole.

Whether they are the right ones is for the caller to find out.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.errors import IntegrityError
from kubeq.store.disk import disk_errors

CHUNK = 2**20
"""Bytes read, hashed and written at a time; other threads run meanwhile.

A thread of its own for hashing would save a third of the time on an idle machine and cost more than that on a busy one,
where every hand-over waits for a turn.
"""
WRITE_BACK = 16 * CHUNK
"""After so many bytes the disk is told to begin, so that the fsync in the end has little left to wait for."""


def copy_hashed(
    source: BinaryIO,
    descriptor: int,
    path: bytes | Path,
    size: int,
    *,
    durable: bool,
    write_back: bool = False,
) -> Digest:
    """The digest of what `source` gave, once it all is in the file (and on the disk, if `durable`).

    With `write_back` the disk is told early to begin, for an fsync of ours or for a sync of the whole in the end.

    `size` is how much is expected; reading stops soon after more has come. `path` is for messages. Raises
    BackendError if the file cannot be written; what `source` raises passes through.
    """
    hasher, copied, told = hashlib.sha256(), 0, 0
    buffer = memoryview(bytearray(min(CHUNK, size + 1)))
    while copied <= size and (count := read_into(source, buffer)):
        hasher.update(buffer[:count])
        copied += count
        with disk_errors("write", path, size):
            _write_all(descriptor, buffer[:count])
            if write_back and copied - told >= WRITE_BACK:
                # Linux begins to write dirty pages out when told that they are not needed, and keeps them.
                os.posix_fadvise(descriptor, told, copied - told, os.POSIX_FADV_DONTNEED)
                told = copied
    if durable:
        with disk_errors("write", path, size):
            os.fsync(descriptor)
    return Digest(hasher.hexdigest(), copied)


def read_up_to(source: BinaryIO, most: int) -> bytes:
    """The next bytes of the stream: `most`, or less where it ends."""
    content = bytearray()
    while len(content) < most and (chunk := source.read(most - len(content))):
        content += chunk
    return bytes(content)


def not_as_announced(key: str, size: int, sha256: str) -> IntegrityError:
    """The error for a source that gives something else than was said; nothing is stored of it."""
    return IntegrityError(f"what was to be stored as {key} is not the announced {size} bytes of {sha256}")


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
