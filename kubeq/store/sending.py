"""Sending objects to a bucket: small ones whole, large ones in parts side by side, and only so much of it in memory.

Knows no service. A source is read once, from its beginning, and hashed on the way; what it gives is compared before
anything of it is sent, or, of a large one, before the object comes into being. What fails for a moment is sent again
part by part.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import BinaryIO, Generic, TypeVar

from kubeq.core.digest import Digest
from kubeq.errors import BackendError, IntegrityError
from kubeq.store.copying import not_as_announced, read_up_to
from kubeq.store.patience import Patience

T = TypeVar("T")

PART = 8 * 2**20
"""Bytes of a part; an object of no more is sent in one piece. S3 wants 5 MiB at least, and Google's client sends no
more in one request."""
AT_ONCE = 8
"""Parts and whole objects above SMALL of one store in memory and on their way, however many threads put at once."""
SMALL = 2**20
"""Bytes of an object of which any number may be on their way."""


class Sender:
    """What one store has on its way. Safe to use from several threads."""

    def __init__(self, patience: Patience) -> None:
        self._again = patience.repeat_one_of_many
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    @contextmanager
    def whole(self, name: str, open: Callable[[], BinaryIO], digest: Digest) -> Iterator[bytes]:
        """All bytes of an object of at most PART, to be sent in the block. Raises IntegrityError for other bytes."""
        with self._slots if digest.size > SMALL else nullcontext():
            with open() as source:
                content = read_up_to(source, digest.size + 1)
            if Digest.of(content) != digest:
                raise not_as_announced(name, digest.size, digest.sha256)
            yield content

    def in_parts(
        self, name: str, source: BinaryIO, digest: Digest, send: Callable[[int, bytes], T], size: int = PART
    ) -> list[T]:
        """What `send` answered for each part of `size` bytes, in their order; it gets their numbers, from 1 on.

        It may be called again with the same part. Raises IntegrityError if the source gave something else. Nothing is
        on its way any more when this returns or raises.
        """
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="part") as threads:
            given_up = threading.Event()

            def send_once(number: int, content: bytes) -> T:
                if given_up.is_set():
                    raise BackendError(f"the upload of {name} was given up")
                return send(number, content)

            def send_part(number: int, content: bytes) -> T:
                return self._again(partial(send_once, number, content))

            try:
                return _Parts(name, digest, self._slots, send_part).send(source, size, threads)
            except BaseException:
                given_up.set()
                raise


class _Parts(Generic[T]):
    """The parts of one object. `slots` are the store's, one for each part in memory."""

    def __init__(
        self, name: str, digest: Digest, slots: threading.BoundedSemaphore, send: Callable[[int, bytes], T]
    ) -> None:
        self._name = name
        self._digest = digest
        self._slots = slots
        self._send = send

    def send(self, source: BinaryIO, size: int, threads: ThreadPoolExecutor) -> list[T]:
        """What became of each, in their order."""
        hasher, left = hashlib.sha256(), self._digest.size
        sent: list[T] = []
        pending: deque[Future[T]] = deque()
        while left:
            content = self._read(source, min(size, left))
            pending.append(threads.submit(self._send_one, len(sent) + len(pending) + 1, content))
            hasher.update(content)
            left -= len(content)
            while pending and pending[0].done():
                sent.append(pending.popleft().result())
        if source.read(1) or hasher.hexdigest() != self._digest.sha256:
            raise self._wrong()
        return sent + [part.result() for part in pending]

    def _read(self, source: BinaryIO, wanted: int) -> bytes:
        """The next part, for which there is a slot that `_send_one` gives back."""
        self._slots.acquire()
        try:
            content = read_up_to(source, wanted)
            if len(content) < wanted:
                raise self._wrong()
        except BaseException:
            self._slots.release()
            raise
        return content

    def _send_one(self, number: int, content: bytes) -> T:
        try:
            return self._send(number, content)
        finally:
            self._slots.release()

    def _wrong(self) -> IntegrityError:
        return not_as_announced(self._name, self._digest.size, self._digest.sha256)
