"""One large object of an S3 bucket, sent in parts side by side; nobody sees it before the last part.

Each part carries a checksum of its own, which S3 compares. How the source is read and parts are sent is in `sending`.
What a dead process leaves behind is removed by the rule of the bucket that `s3_setup` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.errors import BackendError
from kubeq.store.patience import Patience
from kubeq.store.s3_bucket import Bucket
from kubeq.store.sending import PART, Sender

MOST_PARTS = 10_000
"""S3 user guide, "Amazon S3 multipart upload limits"."""


class PartedPuts:
    """Puts of large objects into one bucket."""

    def __init__(self, bucket: Bucket, patience: Patience, sender: Sender) -> None:
        self._bucket = bucket
        self._again = patience.repeat_one_of_many
        self._sender = sender

    def put(self, name: str, open: Callable[[], BinaryIO], digest: Digest) -> bool:
        """Whether it made the object, which is all there at once. Raises IntegrityError, BackendError.

        Service requests: HeadObject; if there is none yet CreateMultipartUpload, an UploadPart for each 8 MiB (above
        78 GiB: for a ten-thousandth), CompleteMultipartUpload; AbortMultipartUpload if that failed or came too late.
        """
        again, bucket = self._again, self._bucket
        if again(lambda: bucket.size(name)) is not None:
            return False
        with open() as source:
            id = again(lambda: bucket.begin(name))
            created = None
            try:
                send = partial(bucket.send, name, id)
                parts = self._sender.in_parts(name, source, digest, send, _part_size(digest.size))
                created = again(lambda: bucket.complete(name, id, parts))
            finally:
                if not created:
                    with suppress(BackendError):
                        bucket.abort(name, id)
        if created is None:
            raise BackendError(f"{bucket} dropped the parts of {name} that it had been sent", transient=True)
        return created


def _part_size(size: int) -> int:
    """The smallest whole number of MiB from PART on with which MOST_PARTS suffice."""
    return max(PART, -(-size // (MOST_PARTS * 2**20)) * 2**20)
