"""One large object of a bucket of Google Cloud Storage: parts sent side by side, then joined by the service.

Why not one resumable upload: its pieces go one after another, over one connection. Why not the multipart upload of the
XML API: its last request takes no precondition, so it could overwrite. Composing takes one, copies no byte, and what
was never composed was never there. A composed object has no MD5, only the CRC32C that every part is sent with.

How the source is read and parts are sent is in `sending`. Parts have random names in a reserved folder; what a dead
process leaves there is removed by the rule of the bucket that `gcs_setup` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.errors import BackendError
from kubeq.store.gcs_bucket import Bucket
from kubeq.store.keys import RESERVED
from kubeq.store.parallel import run_parallel
from kubeq.store.patience import Patience
from kubeq.store.sending import AT_ONCE, PART, Sender

PARTS = f"{RESERVED}/kubeq-parts"
"""The folder of parts. Its name must be nobody else's: what is old in there is removed by a rule of the bucket."""
MOST_JOINED = 32
"""Objects that one request can join (Cloud Storage, "Composite objects")."""


class PartedPuts:
    """Puts of large objects into one bucket; their parts stand below `root` meanwhile."""

    def __init__(self, bucket: Bucket, root: str, patience: Patience, sender: Sender, *, part: int = PART) -> None:
        self.bucket = bucket
        self.part = part
        self.folder = root + PARTS
        self.again = patience.repeat_one_of_many
        self.sender = sender

    def put(self, name: str, open: Callable[[], BinaryIO], digest: Digest) -> bool:
        """Whether it made the object, which is all there at once. Raises IntegrityError, BackendError.

        Requests: `objects.get`; if there is none yet `objects.insert` and `objects.delete` for each 8 MiB, and
        `objects.compose` for each 32 of these, again for each 32 of those, and so on to the one that is the object.
        """
        if self.again(partial(self.bucket.size, name)) is not None:
            return False
        with open() as source:
            parts = _Parts(self)
            try:
                sent = self.sender.in_parts(name, source, digest, parts.send, self.part)
                return parts.join(sent, name)
            finally:
                parts.discard()


class _Parts:
    """The parts of one object, and what is joined of them on the way."""

    def __init__(self, puts: PartedPuts) -> None:
        self._puts = puts
        self._folder = f"{puts.folder}/{token_hex(16)}"
        self._made: set[str] = set()

    def send(self, number: int, content: bytes) -> str:
        """The name of the part, which stands. Nobody else knows it: if it did already, a try whose answer was lost has
        made it.
        """
        name = self._new_name(str(number))
        self._puts.bucket.create(name, content)
        return name

    def join(self, names: Sequence[str], whole: str) -> bool:
        """Whether those parts became the object."""
        bucket, again = self._puts.bucket, self._puts.again
        while len(names) > MOST_JOINED:
            groups = [names[start : start + MOST_JOINED] for start in range(0, len(names), MOST_JOINED)]
            joined = [self._new_name(f"of-{len(names)}-{number}") for number in range(len(groups))]
            calls = [partial(bucket.compose, *pair) for pair in zip(groups, joined, strict=True)]
            run_parallel([partial(again, call) for call in calls], AT_ONCE)
            names = joined
        return again(partial(bucket.compose, names, whole))

    def discard(self) -> None:
        """Remove all that was made on the way, as far as that goes now; the rest is left to the bucket's rule."""
        with suppress(BackendError):
            run_parallel([partial(self._puts.bucket.delete, name) for name in self._made], AT_ONCE)

    def _new_name(self, word: str) -> str:
        name = f"{self._folder}/{word}"
        self._made.add(name)
        return name
