"""The sizes of many objects of a bucket, in as few requests as their names allow.

A request for one object asks for one name. A listing's page shows up to 1,000 names that follow each other and costs as
much as 12 such requests (in dollars, and in time of this machine), so it pays where a dozen of the wanted names lie
close together, which nobody knows before: blobs are named by hashes, and the bucket may hold few others or millions. So
the wanted names are sorted and split into stretches, and each stretch is listed as long as its pages keep showing a
dozen of them. The rest is asked for one by one. At worst that is a twelfth dearer than asking for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from kubeq.store.parallel import NETWORK_THREADS, run_parallel
from kubeq.store.patience import Patience

PAGE_WORTH = 12
"""Objects asked for at the cost of a page: 0.0004 to 0.005 dollars a thousand, in S3 (us-east-1) and Cloud Storage."""
STRETCH = 12 * PAGE_WORTH
"""Names that are worth a first page, to see how close they lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of a listing: names and sizes in byte order, and whether more follow."""

    objects: Sequence[tuple[str, int]]
    more: bool


class Listable(Protocol):
    """A bucket. Each call is one request and may raise BackendError."""

    def size(self, name: str) -> int | None:
        """The object's size; None if there is no such object, or no such bucket."""
        ...

    def listing(self, prefix: str, after: str, most: int = 1000) -> Listing:
        """The next names that begin with `prefix` and are greater than `after`."""
        ...


class Sizes:
    """Asks one bucket for sizes."""

    def __init__(self, bucket: Listable, patience: Patience) -> None:
        self._bucket = bucket
        self._again = patience.repeat_one_of_many

    def of(self, names: Sequence[str]) -> Mapping[str, int]:
        """The sizes of those that exist. Raises BackendError, also when there is no such bucket.

        Service requests: one a name (S3: HeadObject, Cloud Storage: objects.get), and a page of a listing (S3:
        ListObjectsV2, Cloud Storage: objects.list) if none exists; from 144 names on at most a page for every 144 and
        a request for every name, and where the names lie close together one page for up to 1,000.
        """
        wanted = sorted(set(names))  # code points sort as their UTF-8 does
        found: dict[str, int] = {}
        rest: list[str] = []
        stretches = list(_stretches(wanted))
        for sizes, unseen in run_parallel([partial(self._listed, stretch) for stretch in stretches], NETWORK_THREADS):
            found |= sizes
            rest += unseen
        if not stretches:
            rest = wanted
        heads = run_parallel([partial(self._again, partial(self._bucket.size, name)) for name in rest], NETWORK_THREADS)
        found |= {name: size for name, size in zip(rest, heads, strict=True) if size is not None}
        if rest and not found:
            self._again(lambda: self._bucket.listing(rest[0], "", most=1))  # no bucket is told as no object
        return found

    def _listed(self, wanted: Sequence[str]) -> tuple[Mapping[str, int], Sequence[str]]:
        """What pages of the listing tell of the sorted names, and those names that are left to be asked for."""
        prefix, after, found, left = _common_prefix(wanted[0], wanted[-1]), "", dict[str, int](), wanted
        while left:
            after = max(after, left[0][:-1])
            page = self._again(partial(self._bucket.listing, prefix, after))
            sizes = dict(page.objects)
            seen = left if not page.more else [name for name in left if name <= page.objects[-1][0]]
            found |= {name: sizes[name] for name in seen if name in sizes}
            left = left[len(seen) :]
            if len(seen) < PAGE_WORTH:
                break
            after = page.objects[-1][0] if page.objects else after
        return found, left


def _stretches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The names in runs of STRETCH or more, as many as there are threads; none where there are too few."""
    count = min(NETWORK_THREADS, len(names) // STRETCH)
    for number in range(count):
        yield names[number * len(names) // count : (number + 1) * len(names) // count]


def _common_prefix(one: str, other: str) -> str:
    end = 0
    while one[end : end + 1] == other[end : end + 1] != "":
        end += 1
    return one[:end]
