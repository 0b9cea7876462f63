"""Sources in buckets: `s3://BUCKET/NAME` and `gs://BUCKET/NAME`, an object or all objects below a prefix.

What pins an object is the service's to say: in Cloud Storage its generation, which is the name of those very bytes; in
S3 its entity tag, which is another one as soon as the bytes are (not its version, which few buckets have and which is a
permission more). The name in the URL is the object's own, as in the clouds' tools: nothing in it is decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from kubeq.core.manifest import Remote
from kubeq.errors import UsageError
from kubeq.metering import Meter, added
from kubeq.store.sources import Pinned, changed, check_count, gone, nothing_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An object as it is now; whoever overwrites it gives it another pin."""

    name: str
    size: int
    pin: str


class Pinning(Protocol):
    """A bucket that pins its objects. Every call may raise BackendError, also when there is no such bucket."""

    meter: Meter

    def standing(self, name: str) -> Standing | None:
        """The object as it is now; None if there is none. One request."""
        ...

    def all_standing(self, prefix: str) -> Iterator[Standing]:
        """Every object whose name begins with `prefix`, as it is now, in byte order. One request for every 1,000."""
        ...

    def read(self, name: str, start: int, pin: str | None = None) -> BinaryIO | None:
        """The bytes from `start` on; None if there is no such object, or none with that pin. One request."""
        ...


class BucketSite:
    """The objects of all buckets that this process may read. `scheme` is that of their URLs."""

    def __init__(self, scheme: str, open_bucket: Callable[[str], Pinning]) -> None:
        self._scheme = scheme
        self._open_bucket = open_bucket
        self._lock = threading.Lock()
        self._buckets: dict[str, Pinning] = {}

    @property
    def requests(self) -> Mapping[str, int]:
        """Those of all its buckets."""
        with self._lock:
            return added(*(bucket.meter.read() for bucket in self._buckets.values()))

    def look(self, url: str) -> Sequence[Pinned]:
        """See Site. A name that is both an object and a prefix is the object, unless it ends in a slash."""
        bucket, name = self._parse(url)
        if name and not name.endswith("/") and (found := bucket.standing(name)) is not None:
            return [Pinned(url=url, pin=found.pin, size=found.size)]
        prefix = f"{name.rstrip('/')}/" if name else ""
        files = list(self._below(url, prefix))
        if not files:
            raise nothing_at(url)
        return files

    def open(self, remote: Remote, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """See Opener."""
        bucket, name = self._parse(remote.url)
        stream = bucket.read(name, start, remote.pin)
        if stream is not None:
            return stream
        standing = bucket.standing(name)
        raise gone(remote) if standing is None else changed(remote, standing.pin)

    def _below(self, url: str, prefix: str) -> Iterator[Pinned]:
        bucket, name = self._parse(url)
        root = url.removesuffix(name) if name else url.rstrip("/") + "/"
        for count, found in enumerate(bucket.all_standing(prefix), 1):
            check_count(url, count)
            if not found.name.endswith("/"):  # else it stands for a directory, as consoles make them
                yield Pinned(url=root + found.name, pin=found.pin, size=found.size, name=found.name[len(prefix) :])

    def _parse(self, url: str) -> tuple[Pinning, str]:
        bucket, _, name = url.removeprefix(f"{self._scheme}://").partition("/")
        if not bucket:
            raise UsageError(f"{url} names no bucket", hint=f"write {self._scheme}://BUCKET/NAME")
        with self._lock:
            if bucket not in self._buckets:
                self._buckets[bucket] = self._open_bucket(bucket)
            return self._buckets[bucket], name
