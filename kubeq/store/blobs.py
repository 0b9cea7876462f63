"""Content addressing: blobs named by their digest, which are missing, verified reads, parallel transfer.

`blobs/<first two hex digits>/<sha256>-<size>` is the only layout, and this the only module that knows it.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kubeq.core.digest import Digest
from kubeq.core.manifest import Manifest
from kubeq.core.model import Reach
from kubeq.errors import BackendError, IntegrityError, UsageError
from kubeq.store.base import ObjectStore
from kubeq.store.copying import CHUNK, copy_hashed, read_into
from kubeq.store.disk import disk_errors
from kubeq.store.parallel import run_parallel, threads_for

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DOCUMENT_LIMIT = 64 * 2**20
"""Bytes of the largest blob that is read into memory: a manifest of about 500,000 files."""


class Blobs:
    """Immutable bytes by their digest, in an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @property
    def reach(self) -> Reach:
        """Who can see them."""
        return self._store.reach

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Those that have to be uploaded, by one question. A stored object of the wrong size counts as missing."""
        sizes = self._store.stat([_key(digest) for digest in digests])
        return {digest for digest in digests if sizes.get(_key(digest)) != digest.size}

    def put_bytes(self, content: bytes) -> Digest:
        """The digest under which the bytes now stand. Raises UsageError for more than DOCUMENT_LIMIT bytes."""
        digest = Digest.of(content)
        if digest.size > DOCUMENT_LIMIT:
            raise UsageError(
                f"a document of {digest.size} bytes is too large to be stored; {DOCUMENT_LIMIT} is the most"
            )
        if not self._store.put(_key(digest), lambda: io.BytesIO(content), digest.size, digest.sha256):
            self._compare([digest])
        return digest

    def read(self, digest: Digest) -> bytes:
        """The verified bytes of a small blob. Raises ObjectNotFound, or IntegrityError for wrong or too many bytes."""
        if digest.size > DOCUMENT_LIMIT:
            raise IntegrityError(
                f"the document {digest} is larger than the {DOCUMENT_LIMIT} bytes that are ever written"
            )
        with self._store.get(_key(digest)) as stream:
            content = stream.read(digest.size + 1)
        if len(content) != digest.size or Digest.of(content) != digest:
            raise self._corrupted(digest)
        return content

    def url_of(self, digest: Digest) -> str:
        """Where the blob is, whether or not it stands there."""
        return f"{self._store.url.rstrip('/')}/{_key(digest)}"

    def stored(self) -> Iterator[Digest]:
        """Every blob there is; what is not called like one is left out. One listing."""
        for stored in self._store.list("blobs/"):
            with suppress(ValueError):
                yield Digest.parse(stored.key.rpartition("/")[2])

    def delete(self, digests: Collection[Digest]) -> None:
        """Remove them; absent ones are no error. The caller knows that nothing refers to them."""
        self._store.delete([_key(digest) for digest in digests])

    def read_manifest(self, digest: Digest) -> Manifest:
        """The manifest. Raises ObjectNotFound or IntegrityError."""
        return Manifest.decode(self.read(digest))

    def upload(
        self,
        sources: Mapping[Digest, Callable[[], BinaryIO]],
        *,
        progress: Callable[[int], None] | None = None,
        threads: int | None = None,
    ) -> None:
        """Store them all, in `threads` or as many as suit the store; what stands is left alone. May be repeated.

        `progress` gets numbers of bytes that add up to the sum of the sizes, from several threads but never from two
        at once. Raises UsageError for a source that cannot be read, IntegrityError for one that is not what its digest
        says or for a stored object of another size.
        """
        turn = threading.Lock()
        meters = {digest: _Meter(progress, turn) for digest in sources}
        with self._store.batch() as store:
            calls = [partial(self._upload, store, digest, open, meters[digest]) for digest, open in sources.items()]
            created = run_parallel(calls, threads or threads_for(store.reach))
        self._compare([digest for digest, new in zip(sources, created, strict=True) if not new])

    def download(self, digest: Digest, destination: Path) -> None:
        """Have the verified bytes at `destination`, whose directory exists; a file that stands there is replaced.

        Under that name there is never anything but the whole of it, as long as the machine does not crash (it is not
        fsynced). Raises ObjectNotFound or IntegrityError.
        """
        temporary = destination.with_name(f".kubeq-{os.getpid()}-{secrets.token_hex(8)}")
        try:
            with disk_errors("write", destination, digest.size):
                file = temporary.open("xb", buffering=0)
            with file, self._store.get(_key(digest)) as stream:
                received = copy_hashed(stream, file.fileno(), destination, digest.size, durable=False)
            if received != digest:
                raise self._corrupted(digest)
            with disk_errors("write", destination):
                temporary.replace(destination)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _upload(self, store: ObjectStore, digest: Digest, open: Callable[[], BinaryIO], meter: _Meter) -> bool:
        try:
            created = store.put(_key(digest), lambda: meter.metered(open()), digest.size, digest.sha256)
        except OSError as error:
            # A store translates its own errors, so this one is the source's.
            name = error.filename or f"the source of blob {digest}"
            raise UsageError(f"{name} could not be read while it was uploaded: {error.strerror or error}") from error
        meter.reach(digest.size)
        return created

    def _compare(self, digests: Collection[Digest]) -> None:
        if not digests:
            return
        sizes = self._store.stat([_key(digest) for digest in digests])
        for digest in digests:
            size = sizes.get(_key(digest))
            if size is None:
                raise BackendError(
                    f"the blob {digest} vanished from {self._store.url} while it was being uploaded",
                    hint="submit again when nothing is cleaning the store",
                )
            if size != digest.size:
                raise self._corrupted(digest)

    def _corrupted(self, digest: Digest) -> IntegrityError:
        return IntegrityError(
            f"the stored bytes of blob {digest} are not what its digest says",
            hint=f"remove {self.url_of(digest)} and submit again from an intact file",
        )


def hash_file(path: Path) -> Digest:
    """The digest of a regular file. Raises UsageError naming it if it cannot be read or changes meanwhile."""
    try:
        # Not blocking: to open a FIFO would wait for its writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise UsageError(f"{path} is not a regular file")
            digest = _hash(stream, before.st_size)
            after = os.fstat(stream.fileno())
        now = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    if not _same(before, after) or not _same(after, now) or digest.size != after.st_size:
        raise UsageError(f"{path} changed while it was being read", hint="try again when nothing writes to it")
    return digest


def _key(digest: Digest) -> str:
    return f"blobs/{digest.sha256[:2]}/{digest}"


def blob_of_key(key: str) -> Digest | None:
    """The blob that lies under the key; None if that is no blob's."""
    with suppress(ValueError):
        digest = Digest.parse(key.rpartition("/")[2])
        return digest if key == _key(digest) else None
    return None


def _hash(stream: io.FileIO, expected: int) -> Digest:
    hasher, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(min(CHUNK, expected + 1)))
    while count := stream.readinto(buffer):
        hasher.update(buffer[:count])
        size += count
    return Digest(hasher.hexdigest(), size)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_dev,
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


class _Meter:
    """Reports one blob's bytes as they are read; each once, however often the source is opened again."""

    def __init__(self, report: Callable[[int], None] | None, turn: threading.Lock) -> None:
        self._report = report
        self._turn = turn
        self._offset = 0
        self._reported = 0

    def metered(self, source: BinaryIO) -> BinaryIO:
        self._offset = 0
        return source if self._report is None else io.BufferedReader(_Counted(source, self._passed))

    def reach(self, offset: int) -> None:
        if self._report is None or offset <= self._reported:
            return
        with self._turn:
            self._report(offset - self._reported)
        self._reported = offset

    def _passed(self, count: int) -> None:
        self._offset += count
        self.reach(self._offset)


class _Counted(io.RawIOBase):
    """The bytes of `source`; `passed` is told how many each read gave. Closing it closes the source."""

    def __init__(self, source: BinaryIO, passed: Callable[[int], None]) -> None:
        self._source = source
        self._passed = passed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = read_into(self._source, memoryview(buffer).cast("B"))
        self._passed(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
