"""The object store in a bucket of Google Cloud Storage: `gs://BUCKET[/PREFIX]`, where `<PREFIX>/<key>` is the object.

Nothing but the ObjectStore protocol lives here. The requests themselves are in `gcs_bucket`, uploads in parts in
`gcs_parts`, the sizes of many objects in `sizes`, what makes a bucket in `gcs_setup`.

Who retries: never Google's client. A call of one request fails with it, and `Retrying` around the store makes it again;
a call of many repeats each by itself, and its error says that it has been given its time (`patience`). Every put says
"only if there is no object of that name", so it never overwrites; one whose answer was lost is answered False by the
next try, for the object stands then: the caller compares.

Requests: put: `objects.insert`, above 8 MiB those of `gcs_parts`; get: `objects.get`, and one `objects.list` if there
is no such object; stat: those of `sizes`; list: `objects.list` for every 1,000 objects; delete: `objects.delete` a key.

Names are flat: that a key is no directory of another is not checked. Neither versioning nor soft deletion is of use in
such a bucket: what is deleted would go on costing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import BinaryIO, ClassVar
from urllib.parse import SplitResult, quote

from kubeq.core.digest import Digest
from kubeq.core.model import Reach
from kubeq.errors import ObjectNotFound, UsageError
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.bucket_listing import stored_below
from kubeq.store.bucket_urls import parse_url
from kubeq.store.gcs_bucket import Bucket
from kubeq.store.gcs_parts import PartedPuts
from kubeq.store.keys import LONGEST_KEY, check_key
from kubeq.store.parallel import NETWORK_THREADS, run_parallel
from kubeq.store.patience import Patience
from kubeq.store.sending import PART, Sender
from kubeq.store.sizes import Sizes


class GcsStore:
    """An ObjectStore in `bucket`, below `prefix` if that is not empty. Connects on its first request."""

    reach: ClassVar[Reach] = Reach.NETWORK

    def __init__(self, bucket: Bucket, prefix: str = "", *, patience: Patience | None = None) -> None:
        patience = patience or Patience()
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._again = patience.repeat_one_of_many
        self._sender = Sender(patience)
        self._large = PartedPuts(bucket, self._root, patience, self._sender)
        self._sizes = Sizes(bucket, patience)

    @property
    def url(self) -> str:
        """`gs://`, the bucket and the prefix, percent-encoded."""
        return f"gs://{self._bucket.name}/{quote(self._root)}".rstrip("/")

    @property
    def requests(self) -> Mapping[str, int]:
        """By method of the JSON API: `objects.insert`, `objects.get` and so on."""
        return self._bucket.meter.read()

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """True if the object was created; see ObjectStore. What `open` and its stream raise passes through.

        What the source gives is compared before anything of it is sent, or, of a large one, before the object comes
        into being.
        """
        name, digest = self._name(key), Digest(sha256, size)
        if size > PART:
            return self._large.put(name, open, digest)
        with self._sender.whole(key, open, digest) as content:
            return self._bucket.create(name, content)

    def batch(self) -> AbstractContextManager[ObjectStore]:
        """Itself: every put is durable when it returns."""
        return nullcontext(self)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes from `start` on, as they come; see ObjectStore."""
        stream = self._bucket.read(self._name(key), start)
        if stream is None:
            self._bucket.listing("", "", most=1)  # "not found" is also said of an object in a bucket that is gone
            raise ObjectNotFound(f"the store {self.url} holds no {key}")
        return stream

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those that exist."""
        sizes = self._sizes.of([self._name(key) for key in keys])
        return {name[len(self._root) :]: size for name, size in sizes.items()}

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """What starts with `prefix` and is greater than `after`; what has no name of ours is left out."""
        return stored_below(self._bucket, self._root, prefix, after)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove them, many at a time; absent keys are no error."""
        names = [self._name(key) for key in keys]
        run_parallel([partial(self._again, partial(self._bucket.delete, name)) for name in names], NETWORK_THREADS)

    def _name(self, key: str) -> str:
        """What the object is called in the bucket. Raises ValueError for no key, UsageError for one too long."""
        check_key(key)
        name = self._root + key
        if len(name.encode()) > LONGEST_KEY:
            raise UsageError(
                f"{name} would be longer than the {LONGEST_KEY} bytes that a name in {self._bucket} may have",
                hint="choose a shorter prefix for the store, or shorter names",
            )
        return name


def open_gcs(parts: SplitResult) -> GcsStore:
    """The store at that URL."""
    bucket, prefix = parse_url(parts)
    return GcsStore(Bucket(bucket), prefix)
