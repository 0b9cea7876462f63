"""Text that grows, as numbered write-once objects below a prefix: appended by one writer, followed by anybody."""

from __future__ import annotations

import io
from collections.abc import Sequence

from kubeq.core.digest import Digest
from kubeq.errors import IntegrityError, ObjectNotFound
from kubeq.store.base import ObjectStore

_DELETE_BATCH = 1000
"""S3 takes 1,000 keys a DeleteObjects request."""


class SegmentWriter:
    """Appends below a prefix, of which it is the only writer; `first` is the number of its next segment."""

    def __init__(self, store: ObjectStore, prefix: str, first: int = 1) -> None:
        self._store = store
        self._prefix = prefix
        self._first = self._number = first
        self._tried = first - 1
        """The highest number of a segment that may stand, should the answer to its put have been lost."""

    @property
    def is_first(self) -> bool:
        """Whether nothing stood there when it was made, nor was appended since."""
        return self._number == 1

    def append(self, chunk: bytes) -> None:
        """Store the chunk as the next segment; nothing for an empty one. One put.

        After a BackendError call it again with the same bytes, to which newer ones may have been added: what the failed
        call stored all the same is recognised. Raises IntegrityError if somebody else writes there.
        """
        if not chunk:
            return
        key, digest = _key(self._prefix, self._number), Digest.of(chunk)
        self._tried = self._number
        if self._store.put(key, lambda: io.BytesIO(chunk), digest.size, digest.sha256):
            self._number += 1
            return
        with self._store.get(key) as stream:
            standing = stream.read()
        if not standing or not chunk.startswith(standing):
            raise IntegrityError(f"the log segment {key} stands there already with other bytes")
        self._number += 1
        self.append(chunk[len(standing) :])

    def delete(self) -> None:
        """Remove what it has written. May be repeated.

        It knows the names, so nothing is listed: where nothing was written, as for most short attempts, that costs
        nothing at all.
        """
        _delete(self._store, [_key(self._prefix, number) for number in range(self._first, self._tried + 1)])


class SegmentReader:
    """Follows what is below a prefix, from its beginning. `offset` is how many bytes were read."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._number = 0
        self.offset = 0

    def read_new(self) -> bytes:
        """All that came since the last call, nothing lost and nothing twice; empty if nothing did, or it was deleted.

        One listing and a get a new segment.
        """
        pieces: list[bytes] = []
        for stored in self._store.list(self._prefix, _key(self._prefix, self._number)):
            if stored.key != _key(self._prefix, self._number + len(pieces) + 1):
                break  # The one in between was deleted.
            try:
                with self._store.get(stored.key) as stream:
                    pieces.append(stream.read())
            except ObjectNotFound:
                break
        # Only now, so that nothing is lost when a request in between fails.
        self._number += len(pieces)
        self.offset += sum(map(len, pieces))
        return b"".join(pieces)


def delete_segments(store: ObjectStore, prefix: str) -> None:
    """Remove everything below the prefix. May be repeated."""
    _delete(store, [stored.key for stored in store.list(prefix)])


def _delete(store: ObjectStore, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), _DELETE_BATCH):
        store.delete(keys[start : start + _DELETE_BATCH])


def _key(prefix: str, number: int) -> str:
    return f"{prefix}{number:08d}"
