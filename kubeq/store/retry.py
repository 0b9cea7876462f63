"""The one place that retries a store's transient errors. Backends do not, nor does anything above this wrapper."""

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

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")

ATTEMPTS = 8
"""With the pauses below: gives up after 31 seconds on average, 63 at most, and the time of the requests themselves."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Retrying:
    """The ObjectStore `store`, but each request that fails with a transient BackendError is made again.

    It is made up to `attempts` times in all, with pauses drawn between 0 and a bound that doubles ("full jitter": many
    clients that failed together do not come back together). `sleep` gets seconds, `draw` gives a number in [0, 1).
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
        self._sleep = sleep
        self._attempts = attempts
        self._draw = draw

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
        return io.BufferedReader(_Resuming(self._store, key, start, self._retry))

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
        bound = FIRST_PAUSE_S
        for _ in range(1, self._attempts):
            try:
                return request()
            except BackendError as error:
                if not error.transient:
                    raise
            self._sleep(self._draw() * min(bound, LONGEST_PAUSE_S))
            bound *= 2
        return request()


class _Resuming(io.RawIOBase):
    """One object's bytes; opened at once, and again at the offset reached when a read fails."""

    def __init__(self, store: ObjectStore, key: str, start: int, retry: Callable[[Callable[[], int]], int]) -> None:
        self._store = store
        self._key = key
        self._offset = start
        self._retry = retry
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
        return self._retry(lambda: self._read_once(view))

    def _read_once(self, view: memoryview) -> int:
        try:
            if self._stream is None:
                self._stream = self._connection.enter_context(self._store.get(self._key, self._offset))
            count = read_into(self._stream, view) if view else 0
        except BackendError:
            self._stream = None
            self._connection.close()
            raise
        self._offset += count
        return count
