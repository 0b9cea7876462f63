"""The object store in an S3 bucket: `s3://BUCKET[/PREFIX]`, where `<PREFIX>/<key>` is the object.

Nothing but the ObjectStore protocol lives here. The requests themselves are in `s3_bucket`, uploads in parts in
`s3_parts`, the sizes of many objects in `sizes`, what makes a bucket in `s3_setup`.

Who retries: never the SDK. A call of one request fails with it, and `Retrying` around the store makes it again; a call
of many repeats each by itself, and its error says that it has been given its time (`patience`). A put whose answer was
lost is answered False by the next try, for the object stands then: the caller compares.

Service requests: put: PutObject, above 8 MiB those of `s3_parts`; get: GetObject; stat: those of `sizes`; list:
ListObjectsV2 for every 1,000 objects; delete: DeleteObjects for every 1,000 keys.

Names are flat: that a key is no directory of another is not checked. Versioning should be off, or deleting frees
nothing. A general purpose bucket is needed, since directory buckets do not list in byte order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import BinaryIO, ClassVar
from urllib.parse import SplitResult, quote

from kubeq.core.digest import Digest
from kubeq.core.model import Reach
from kubeq.errors import ObjectNotFound
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.bucket_listing import stored_below
from kubeq.store.bucket_urls import parse_url
from kubeq.store.keys import check_key
from kubeq.store.parallel import run_parallel
from kubeq.store.patience import Patience
from kubeq.store.s3_bucket import DELETE_BATCH, Bucket
from kubeq.store.s3_parts import PartedPuts
from kubeq.store.sending import PART, Sender
from kubeq.store.sizes import Sizes


class S3Store:
    """An ObjectStore in `bucket`, below `prefix` if that is not empty. Connects at the first request."""

    reach: ClassVar[Reach] = Reach.NETWORK

    def __init__(self, bucket: Bucket, prefix: str = "", *, patience: Patience | None = None) -> None:
        patience = patience or Patience()
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._again = patience.repeat_one_of_many
        self._sender = Sender(patience)
        self._large = PartedPuts(bucket, patience, self._sender)
        self._sizes = Sizes(bucket, patience)

    @property
    def url(self) -> str:
        """`s3://`, the bucket and the prefix, percent-encoded."""
        return f"s3://{self._bucket.name}/{quote(self._root)}".rstrip("/")

    @property
    def requests(self) -> Mapping[str, int]:
        """By operation: `PutObject`, `HeadObject` and so on."""
        return self._bucket.meter.read()

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """True if the object was created; see ObjectStore. What `open` and its stream raise passes through.

        S3 gets the checksum beside the bytes and refuses them if they do not fit; what the source gives is compared
        before anything of it is sent, or, of a large one, before the object comes into being.
        """
        check_key(key)
        digest = Digest(sha256, size)
        if size > PART:
            return self._large.put(self._root + key, open, digest)
        with self._sender.whole(key, open, digest) as content:
            return self._bucket.create(self._root + key, content, bytes.fromhex(sha256))

    def batch(self) -> AbstractContextManager[ObjectStore]:
        """Itself: every put is durable when it returns."""
        return nullcontext(self)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes from `start` on, as they come; see ObjectStore."""
        check_key(key)
        stream = self._bucket.read(self._root + key, start)
        if stream is None:
            raise ObjectNotFound(f"the store {self.url} holds no {key}")
        return stream

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those that exist."""
        for key in keys:
            check_key(key)
        sizes = self._sizes.of([self._root + key for key in keys])
        return {name[len(self._root) :]: size for name, size in sizes.items()}

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """What starts with `prefix` and is greater than `after`; what has no name of ours is left out."""
        return stored_below(self._bucket, self._root, prefix, after)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove them; absent keys are no error."""
        for key in keys:
            check_key(key)
        names = [self._root + key for key in keys]
        batches = [names[start : start + DELETE_BATCH] for start in range(0, len(names), DELETE_BATCH)]
        run_parallel([partial(self._again, partial(self._bucket.delete, batch)) for batch in batches])


def open_s3(parts: SplitResult) -> S3Store:
    """The store at that URL."""
    bucket, prefix = parse_url(parts)
    return S3Store(Bucket(bucket), prefix)
