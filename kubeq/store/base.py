"""The ObjectStore protocol: write-once bytes under a key. All that a storage backend implements.

Nothing clever lives here or in a backend: hashing, retries, caching and parallel transfer are in the modules above.
Keys are relative paths of printable UTF-8 with `/` between their parts, 1,024 bytes at most; no part is empty, `.` or
`..`.

No key is also a directory of another key: whoever chooses keys sees to that (`blobs`, `outputs` and `logs` do). A
backend with real directories refuses such a put with ValueError. One with flat names, which would have to ask before
every put, stores it beside the other; it neither harms an object nor is seen by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from kubeq.core.model import Reach


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as a listing shows it."""

    key: str
    size: int


class ObjectStore(Protocol):
    """Write-once bytes under keys. Safe to use from several threads."""

    @property
    def reach(self) -> Reach:
        """Who can see it. A backend has it as a class variable, a wrapper answers for what it wraps."""
        ...

    @property
    def url(self) -> str:
        """What `store.open.open_store` makes this very store from again."""
        ...

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests it has made so far, by the service's own name for each kind (a directory: its own calls).

        Service requests per call: each backend documents them in its module.
        """
        ...

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """Create `key`; False if it existed already, whatever it holds (the caller compares).

        Atomic: readers see all of it or nothing; never overwrites. On return the bytes are durable. `open` may be
        called again for another try. Raises IntegrityError if what `open` gives is not `size` bytes with that hash
        (then nothing is stored), BackendError(transient=True) if it is worth trying again, else BackendError.
        """
        ...

    def batch(self) -> AbstractContextManager[ObjectStore]:
        """This store, for a block of many puts: what was put through it stands and is durable when the block has ended.

        Before that a new object need not be seen by anybody, but whatever is seen is durable. So True from a `put`
        inside is provisional (False is not: it stands already); the block's end raises IntegrityError if somebody else
        has put something of another size there meanwhile. If the block raises, nothing is promised about new objects.
        A backend whose puts are durable one by one gives itself.
        """
        ...

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes from offset `start`; an offset at or past the end gives none. Raises ObjectNotFound."""
        ...

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those that exist; thousands at once; strongly consistent."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """All objects whose key starts with `prefix` and is greater than `after`, in byte order of their UTF-8 keys.

        `prefix` is any string, not only a directory. Strongly consistent for what was put before the call.
        """
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove them; absent keys are no error."""
        ...
