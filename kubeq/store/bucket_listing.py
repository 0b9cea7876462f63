"""Listing the keys of a store among the flat names of a bucket, in the same way in every cloud."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubeq.store.base import Stored
from kubeq.store.keys import is_key, may_begin_key
from kubeq.store.sizes import Listable

_SENDABLE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{,250}")
"""What a request can carry as the key to list after: text, of no more than 1,024 bytes."""


def stored_below(bucket: Listable, root: str, prefix: str, after: str) -> Iterator[Stored]:
    """The keys below `root` that start with `prefix` and are greater than `after`; other names are left out.

    One listing of the bucket for every page.
    """
    if not may_begin_key(prefix):
        return
    last = after.encode(errors="surrogatepass")
    sendable = _SENDABLE.match(after)
    position = root + (sendable[0] if sendable else "")
    while True:
        page = bucket.listing(root + prefix, position)
        for name, size in page.objects:
            key = name[len(root) :]
            if is_key(key) and key.encode() > last:
                yield Stored(key, size)
        if not page.more:
            return
        position = page.objects[-1][0]
