"""Outfits: blobs with one canonical encoding, so that equal ones make one pool."""

from __future__ import annotations

import json

from kubeq.core.digest import Digest
from kubeq.core.outfit import Outfit
from kubeq.core.wire.base import SCHEMA, Document, optional, read


def encode_outfit(outfit: Outfit) -> bytes:
    """The blob of an outfit."""
    document = {
        "schema": SCHEMA,
        "pre": outfit.pre,
        "post": outfit.post,
        "overlay": outfit.overlay and str(outfit.overlay),
    }
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode_outfit(content: bytes) -> Outfit:
    """The outfit of a blob."""

    def build(document: Document) -> Outfit:
        return Outfit(
            pre=optional(str, document["pre"]),
            post=optional(str, document["post"]),
            overlay=optional(Digest.parse, document["overlay"]),
        )

    return read("a node's outfit", content, build)
