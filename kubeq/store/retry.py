"""The one wrapper that retries a store's transient errors. Nothing above it does.

A backend does so only for the many requests of one call, and says it in its errors: see `patience`.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import copy
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from kubeq.core.model import Reach
from kubeq.errors import BackendError
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.copying import read_into
from kubeq.store.patience import ATTEMPTS, Patience

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")


class Retrying:
    """The ObjectStore `store`, but each call that fails with a transient BackendError is made again.

    How often and when is `Patience`'s to say, which gets `sleep`, `attempts` and `draw`. A call that has been given all
    the time it ought to have already (`waited`) is not repeated.
    """

    def __init__(
        self,
        store: ObjectStore,
        sleep: Callable[[float], None],
        *,
        attempts: int = ATTEMPTS,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._patience = Patience(sleep=sleep, attempts=attempts, draw=draw)

    @property
    def reach(self) -> Reach:
        """That of the store inside."""
        return self._store.reach

    @property
    def url(self) -> str:
        """That of the store inside."""
        return self._store.url

    @property
    def requests(self) -> Mapping[str, int]:
        """Those of the store inside; each try counts."""
        return self._store.requests

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """As the store; False may mean that an earlier try of this very call made the object."""
        return self._retry(lambda: self._store.put(key, open, size, sha256))

    @contextmanager
    def batch(self) -> Iterator[ObjectStore]:
        """As the store, with the same retries."""
        with self._store.batch() as inner:
            again = copy(self)
            again._store = inner
            yield again

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """As the store; a stream that breaks is opened again where it broke."""
        return resuming(lambda offset: self._store.get(key, offset), start, self._patience)

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """As the store."""
        return self._retry(lambda: self._store.stat(keys))

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """As the store; a listing that breaks goes on after the last key it gave."""
        position, listing = after, self._store.list(prefix, after)

        def following() -> Stored | None:
            nonlocal listing
            try:
                return next(listing, None)
            except BackendError:
                listing = self._store.list(prefix, position)
                raise

        while (stored := self._retry(following)) is not None:
            position = stored.key
            yield stored

    def delete(self, keys: Sequence[str]) -> None:
        """As the store."""
        self._retry(lambda: self._store.delete(keys))

    def _retry(self, request: Callable[[], T]) -> T:
        return self._patience.repeat(request)


def resuming(open: Callable[[int], AbstractContextManager[BinaryIO]], start: int, patience: Patience) -> BinaryIO:
    """The bytes that `open` gives from offset `start` on; a stream that breaks is opened again where it broke.

    It is opened at once, so that what there is to say of it is said here.
    """
    return io.BufferedReader(_Resuming(open, start, patience))


class _Resuming(io.RawIOBase):
    """One stream of bytes, opened at once, and again at the offset reached when a read fails."""

    def __init__(self, open: Callable[[int], AbstractContextManager[BinaryIO]], start: int, patience: Patience) -> None:
        self._open = open
        self._offset = start
        self._patience = patience
        self._connection = ExitStack()
        self._stream: BinaryIO | None = None
        self._read_again(memoryview(bytearray()))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        return self._read_again(view)

    def close(self) -> None:
        if not self.closed:
            self._connection.close()
        super().close()

    def _read_again(self, view: memoryview) -> int:
        return self._patience.repeat(lambda: self._read_once(view))

    def _read_once(self, view: memoryview) -> int:
        try:
            if self._stream is None:
                self._stream = self._connection.enter_context(self._open(self._offset))
            count = read_into(self._stream, view) if view else 0
        except BackendError:
            self._stream = None
            self._connection.close()
            raise
        self._offset += count
        return count
