"""The ObjectStore of a node behind a relay.

Service requests per call: one; `stat`, `list` and `delete` one a thousand keys; a `put` of more than 64 KiB asks first
whether the object stands. What a node may read and write there, the relay decides: AccessDenied is its no.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import BinaryIO, ClassVar

from kubeq.core.model import Reach
from kubeq.errors import IntegrityError
from kubeq.metering import Meter
from kubeq.relay_client import RelayClient
from kubeq.relay_wire import SHA256, object_path
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.keys import check_key

KEYS_A_REQUEST = 1000
ASKED_FIRST = 2**16
"""A larger object is not sent before it is known to be missing: the relay would have to read all of it for nothing."""
CHUNK = 2**18


class _SourceFailed(Exception):
    """What is to be stored could not be read; its cause is the source's own error."""


class RelayStore:
    """An ObjectStore at the other end of a relay."""

    reach: ClassVar[Reach] = Reach.NETWORK

    def __init__(self, client: RelayClient) -> None:
        self._client = client
        self._meter = Meter()

    @property
    def url(self) -> str:
        """The relay's address; opening it needs the node's token too."""
        return self._client.url

    @property
    def requests(self) -> Mapping[str, int]:
        """HTTP requests by what they are for."""
        return self._meter.read()

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """True if the object was created; see ObjectStore. What `open` and its stream raise passes through."""
        check_key(key)
        if size > ASKED_FIRST and self.stat([key]):
            return False
        self._meter.count("put")

        def body() -> Iterator[bytes]:
            return _checked(key, open, size, sha256)

        try:
            answer = self._client.send(object_path(key), body, size, {SHA256: sha256})
        except _SourceFailed as failed:
            assert failed.__cause__ is not None, "it is raised from the source's error"
            raise failed.__cause__ from None
        return bool(answer["created"])

    def batch(self) -> AbstractContextManager[ObjectStore]:
        """Itself."""
        return nullcontext(self)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes from `start` on; see ObjectStore."""
        check_key(key)
        return self._opened(key, start)

    @contextmanager
    def _opened(self, key: str, start: int) -> Iterator[BinaryIO]:
        self._meter.count("get")
        with self._client.fetch(object_path(key, start)) as stream:
            yield stream

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those that exist."""
        for key in keys:
            check_key(key)
        sizes: dict[str, int] = {}
        for start in range(0, len(keys), KEYS_A_REQUEST):
            self._meter.count("stat")
            sizes |= self._client.call("stat", {"keys": list(keys[start : start + KEYS_A_REQUEST])})["sizes"]
        return sizes

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """What starts with `prefix` and is greater than `after`, a page at a time."""
        more = True
        while more:
            self._meter.count("list")
            page = self._client.call("list", {"prefix": prefix, "after": after, "limit": KEYS_A_REQUEST})
            for key, size in page["objects"]:
                yield Stored(key, size)
                after = key
            more = bool(page["more"])

    def delete(self, keys: Sequence[str]) -> None:
        """Remove them; absent keys are no error."""
        for key in keys:
            check_key(key)
        for start in range(0, len(keys), KEYS_A_REQUEST):
            self._meter.count("delete")
            self._client.call("delete", {"keys": list(keys[start : start + KEYS_A_REQUEST])})


def _checked(key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> Iterator[bytes]:
    """The bytes of the source. The last piece is held back until they are known to be those that were announced."""
    hasher, sent, held = hashlib.sha256(), 0, b""
    try:
        with open() as source:
            while sent + len(held) <= size and (piece := source.read(min(CHUNK, size + 1 - sent - len(held)))):
                if held:
                    yield held
                    sent += len(held)
                hasher.update(piece)
                held = piece
    except OSError as error:
        raise _SourceFailed from error
    if sent + len(held) != size or hasher.hexdigest() != sha256:
        raise IntegrityError(f"what was to be stored as {key} is not the announced {size} bytes of {sha256}")
    if held:
        yield held
