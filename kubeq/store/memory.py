"""The object store of one process: the shipped twin of the real ones, as strict as they are. It forgets at exit."""

from __future__ import annotations

import hashlib
import io
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO, ClassVar

from kubeq.core.model import Reach
from kubeq.errors import ObjectNotFound
from kubeq.metering import Meter
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.copying import not_as_announced, read_up_to
from kubeq.store.keys import check_key


class MemoryStore:
    """An ObjectStore over a dictionary. `open_store("memory:")` gives the one that a process shares."""

    reach: ClassVar[Reach] = Reach.HOST

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, bytes] = {}
        self._ordered: list[bytes] = []
        self._meter = Meter()

    @property
    def url(self) -> str:
        """`memory:`, which means something in this process only."""
        return "memory:"

    @property
    def requests(self) -> Mapping[str, int]:
        """Its own calls."""
        return self._meter.read()

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """True if the object was created; see ObjectStore."""
        self._meter.count("put")
        check_key(key)
        with self._lock:
            if key in self._objects:
                return False
        with open() as source:
            content = read_up_to(source, size + 1)
        if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
            raise not_as_announced(key, size, sha256)
        with self._lock:
            if key in self._objects:
                return False
            self._refuse_directory(key)
            self._objects[key] = content
            insort(self._ordered, key.encode())
        return True

    def batch(self) -> AbstractContextManager[ObjectStore]:
        """Itself."""
        return nullcontext(self)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes from `start` on; see ObjectStore."""
        self._meter.count("get")
        check_key(key)
        with self._lock:
            content = self._objects.get(key)
        if content is None:
            raise ObjectNotFound(f"the store {self.url} holds no {key}")
        return io.BytesIO(content[start:])

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those that exist."""
        self._meter.count("stat")
        for key in keys:
            check_key(key)
        with self._lock:
            return {key: len(self._objects[key]) for key in keys if key in self._objects}

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """What starts with `prefix` and is greater than `after`; objects that vanish meanwhile are left out."""
        self._meter.count("list")
        start, last = prefix.encode(errors="surrogatepass"), after.encode(errors="surrogatepass")
        with self._lock:
            first = max(bisect_left(self._ordered, start), bisect_right(self._ordered, last))
            keys = self._ordered[first:]
        for encoded in keys:
            if not encoded.startswith(start):
                return
            key = encoded.decode()
            with self._lock:
                content = self._objects.get(key)
            if content is not None:
                yield Stored(key, len(content))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove them; absent keys are no error."""
        self._meter.count("delete")
        for key in keys:
            check_key(key)
        with self._lock:
            for key in keys:
                if self._objects.pop(key, None) is not None:
                    del self._ordered[bisect_left(self._ordered, key.encode())]

    def _refuse_directory(self, key: str) -> None:
        below = f"{key}/".encode()
        place = bisect_left(self._ordered, below)
        if place < len(self._ordered) and self._ordered[place].startswith(below):
            raise ValueError(f"the key {key!r} is the directory of another key")
        parent = key.rpartition("/")[0]
        while parent:
            if parent in self._objects:
                raise ValueError(f"the key {key!r} is below the key {parent!r}")
            parent = parent.rpartition("/")[0]
