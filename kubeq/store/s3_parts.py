"""One large object of an S3 bucket, sent in parts side by side; nobody sees it before the last part.

The source is read once, from its beginning, and hashed as a whole on the way; each part carries a checksum of its own,
which S3 compares. What fails for a moment is sent again part by part. What a dead process leaves behind is removed by
the rule of the bucket that `s3_setup` makes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.errors import BackendError, IntegrityError
from kubeq.store.copying import not_as_announced, read_up_to
from kubeq.store.patience import Patience
from kubeq.store.s3_bucket import Bucket, Part

PART = 8 * 2**20
"""Bytes of a part; an object of no more is sent in one piece. S3 wants 5 MiB at least."""
MOST_PARTS = 10_000
"""S3 user guide, "Amazon S3 multipart upload limits"."""
AT_ONCE = 8
"""Parts and whole objects above SMALL of one store in memory and on their way, however many threads put at once."""
SMALL = 2**20
"""Bytes of an object of which any number may be on their way."""


class PartedPuts:
    """Puts of large objects into one bucket."""

    def __init__(self, bucket: Bucket, patience: Patience) -> None:
        self.bucket = bucket
        self.patience = patience
        self.slots = threading.BoundedSemaphore(AT_ONCE)

    def put(self, name: str, open: Callable[[], BinaryIO], digest: Digest) -> bool:
        """Whether it made the object, which is all there at once. Raises IntegrityError, BackendError.

        Service requests: HeadObject; if there is none yet CreateMultipartUpload, an UploadPart for each 8 MiB (above
        78 GiB: for a ten-thousandth), CompleteMultipartUpload; AbortMultipartUpload if that failed or came too late.
        """
        again, bucket = self.patience.repeat_one_of_many, self.bucket
        if again(lambda: bucket.size(name)) is not None:
            return False
        with open() as source:
            id = again(lambda: bucket.begin(name))
            created = None
            try:
                parts = _Upload(self, name, id, digest).send(source)
                created = again(lambda: bucket.complete(name, id, parts))
            finally:
                if not created:
                    with suppress(BackendError):
                        bucket.abort(name, id)
        if created is None:
            raise BackendError(f"{bucket} dropped the parts of {name} that it had been sent", transient=True)
        return created


class _Upload:
    """One upload that S3 has begun."""

    def __init__(self, puts: PartedPuts, name: str, id: str, digest: Digest) -> None:
        self._puts = puts
        self._name = name
        self._id = id
        self._digest = digest
        self._stopped = threading.Event()

    def send(self, source: BinaryIO) -> list[Part]:
        """The parts, all taken by S3. Raises IntegrityError if the source gave something else, after all have ended."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="part") as threads:
            try:
                return self._read_and_send(source, threads)
            except BaseException:
                self._stopped.set()
                raise

    def _read_and_send(self, source: BinaryIO, threads: ThreadPoolExecutor) -> list[Part]:
        hasher, left, step = hashlib.sha256(), self._digest.size, _part_size(self._digest.size)
        sent: list[Part] = []
        pending: deque[Future[Part]] = deque()
        while left:
            content = self._read(source, min(step, left))
            pending.append(threads.submit(self._send, len(sent) + len(pending) + 1, content))
            hasher.update(content)
            left -= len(content)
            while pending and pending[0].done():
                sent.append(pending.popleft().result())
        if source.read(1) or hasher.hexdigest() != self._digest.sha256:
            raise self._wrong()
        return sent + [part.result() for part in pending]

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

    def _send(self, number: int, content: bytes) -> Part:
        try:
            return self._puts.patience.repeat_one_of_many(partial(self._send_once, number, content))
        finally:
            self._puts.slots.release()

    def _send_once(self, number: int, content: bytes) -> Part:
        if self._stopped.is_set():
            raise BackendError(f"the upload of {self._name} was given up")
        return self._puts.bucket.send(self._name, self._id, number, content)

    def _wrong(self) -> IntegrityError:
        return not_as_announced(self._name, self._digest.size, self._digest.sha256)


def _part_size(size: int) -> int:
    """The smallest whole number of MiB from PART on with which MOST_PARTS suffice."""
    return max(PART, -(-size // (MOST_PARTS * 2**20)) * 2**20)
