"""One large object of a bucket of Google Cloud Storage: parts sent side by side, then joined by the service.

Why not one resumable upload: its pieces go one after another, over one connection. Why not the multipart upload of the
XML API: its last request takes no precondition, so it could overwrite. Composing takes one, copies no byte, and what
was never composed was never there. A composed object has no MD5, only the CRC32C that every part is sent with.

The source is read once, from its beginning, and hashed as a whole on the way. What fails for a moment is sent again
part by part. Parts have random names in a reserved folder; what a dead process leaves there is removed by the rule of
the bucket that `gcs_setup` makes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.errors import BackendError, IntegrityError
from kubeq.store.copying import not_as_announced, read_up_to
from kubeq.store.gcs_bucket import Bucket
from kubeq.store.keys import RESERVED
from kubeq.store.parallel import run_parallel
from kubeq.store.patience import Patience

PART = 8 * 2**20
"""Bytes of a part; an object of no more is sent in one piece. Google's client sends no more in one request."""
PARTS = f"{RESERVED}/kubeq-parts"
"""The folder of parts. Its name must be nobody else's: what is old in there is removed by a rule of the bucket."""
MOST_JOINED = 32
"""Objects that one request can join (Cloud Storage, "Composite objects")."""
AT_ONCE = 8
"""Parts of one store that are in memory and on their way, however many objects they belong to."""


class PartedPuts:
    """Puts of large objects into one bucket; their parts stand below `root` meanwhile."""

    def __init__(self, bucket: Bucket, root: str, patience: Patience, *, part: int = PART) -> None:
        self.bucket = bucket
        self.part = part
        self.folder = root + PARTS
        self.again = patience.repeat_one_of_many
        self.slots = threading.BoundedSemaphore(AT_ONCE)

    def put(self, name: str, open: Callable[[], BinaryIO], digest: Digest) -> bool:
        """Whether it made the object, which is all there at once. Raises IntegrityError, BackendError.

        Requests: `objects.get`; if there is none yet `objects.insert` and `objects.delete` for each 8 MiB, and
        `objects.compose` for each 32 of these, again for each 32 of those, and so on to the one that is the object.
        """
        if self.again(partial(self.bucket.size, name)) is not None:
            return False
        with open() as source:
            parts = _Parts(self, name, digest)
            try:
                parts.send(source)
                return parts.join()
            finally:
                parts.discard()


class _Parts:
    """The parts of one object, and what is joined of them on the way."""

    def __init__(self, puts: PartedPuts, name: str, digest: Digest) -> None:
        self._puts = puts
        self._name = name
        self._digest = digest
        self._folder = f"{puts.folder}/{token_hex(16)}"
        self._made: list[str] = []
        self._stopped = threading.Event()

    def send(self, source: BinaryIO) -> None:
        """Have all parts stored. Raises IntegrityError if the source gives something else than was said."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="part") as threads:
            try:
                self._read_and_send(source, threads)
            except BaseException:
                self._stopped.set()
                raise

    def join(self) -> bool:
        """Whether the parts became the object."""
        bucket, again = self._puts.bucket, self._puts.again
        names: Sequence[str] = list(self._made)
        while len(names) > MOST_JOINED:
            groups = [names[start : start + MOST_JOINED] for start in range(0, len(names), MOST_JOINED)]
            joined = [self._new_name() for _ in groups]
            calls = [partial(bucket.compose, *pair) for pair in zip(groups, joined, strict=True)]
            run_parallel([partial(again, call) for call in calls], AT_ONCE)
            names = joined
        return again(partial(bucket.compose, names, self._name))

    def discard(self) -> None:
        """Remove all that was made on the way, as far as that goes now; the rest is left to the bucket's rule."""
        with suppress(BackendError):
            run_parallel([partial(self._puts.bucket.delete, name) for name in self._made], AT_ONCE)

    def _read_and_send(self, source: BinaryIO, threads: ThreadPoolExecutor) -> None:
        hasher, left = hashlib.sha256(), self._digest.size
        pending: deque[Future[None]] = deque()
        while left:
            content = self._read(source, min(self._puts.part, left))
            pending.append(threads.submit(self._send, self._new_name(), content))
            hasher.update(content)
            left -= len(content)
            while pending and pending[0].done():
                pending.popleft().result()
        if source.read(1) or hasher.hexdigest() != self._digest.sha256:
            raise self._wrong()
        for part in pending:
            part.result()

    def _read(self, source: BinaryIO, wanted: int) -> bytes:
        """The next part, for which there is a slot that `_send` gives back."""
        self._puts.slots.acquire()
        try:
            content = read_up_to(source, wanted)
            if len(content) < wanted:
                raise self._wrong()
        except BaseException:
            self._puts.slots.release()
            raise
        return content

    def _send(self, name: str, content: bytes) -> None:
        try:
            # Nobody else knows the name: if it exists, a try whose answer was lost has made it.
            self._puts.again(partial(self._send_once, name, content))
        finally:
            self._puts.slots.release()

    def _send_once(self, name: str, content: bytes) -> None:
        if self._stopped.is_set():
            raise BackendError(f"the upload of {self._name} was given up")
        self._puts.bucket.create(name, content)

    def _new_name(self) -> str:
        self._made.append(f"{self._folder}/{len(self._made)}")
        return self._made[-1]

    def _wrong(self) -> IntegrityError:
        return not_as_announced(self._name, self._digest.size, self._digest.sha256)
