"""The outfit that the configuration asks for, ready to be stored: what nodes of a new pool do around their attempts.

Nothing is stored or asked here. How it is done on the node is the agent's.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from kubeq.config import Config
from kubeq.core.digest import Digest
from kubeq.core.outfit import Outfit
from kubeq.core.wire import encode_outfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Dressing:
    """An outfit as bytes: the blobs that hold it, itself the first one, and files of this machine by their digests."""

    documents: tuple[bytes, ...]
    sources: Mapping[Digest, Path] = field(default_factory=dict)

    def opens(self) -> dict[Digest, Callable[[], BinaryIO]]:
        """How each of its blobs is read, for storing them."""
        documents = {Digest.of(document): partial(io.BytesIO, document) for document in self.documents}
        return documents | {digest: partial(_open, path) for digest, path in self.sources.items()}

    @property
    def digest(self) -> Digest:
        """Names the outfit and all that it refers to."""
        return Digest.of(self.documents[0])


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def dressing_of(config: Config) -> Dressing | None:
    """What the configuration wants done to nodes; None for nothing."""
    if config.pre is None and config.post is None:
        return None
    return Dressing(documents=(encode_outfit(Outfit(pre=config.pre, post=config.post)),))
