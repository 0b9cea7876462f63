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

from kubeq.actions.overlays import survey, warnings_of
from kubeq.config import Config
from kubeq.core.digest import Digest
from kubeq.core.outfit import Outfit
from kubeq.core.overlay import Overlay
from kubeq.core.wire import encode_outfit
from kubeq.store.blobs import hash_file
from kubeq.store.parallel import THREADS, run_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Dressing:
    """An outfit as bytes: the blobs that hold it, itself the first one, and files of this machine by their digests."""

    documents: tuple[bytes, ...]
    sources: Mapping[Digest, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

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
    """What the configuration wants done to nodes; None for nothing. Reads every file of an overlay.

    Raises UsageError naming what of an overlay cannot travel.
    """
    if config.pre is None and config.post is None and config.overlay is None:
        return None
    if config.overlay is None:
        return Dressing(documents=(encode_outfit(Outfit(pre=config.pre, post=config.post)),))
    items = survey(config.overlay, own=[config.state_dir, config.cache_dir])
    files = [item for item in items if item.is_file]
    digests = dict(zip(files, run_parallel([partial(hash_file, item.place) for item in files], THREADS), strict=True))
    overlay = Overlay.of(item.laid(digests.get(item)) for item in items).encode()
    outfit = Outfit(pre=config.pre, post=config.post, overlay=Digest.of(overlay))
    return Dressing(
        documents=(encode_outfit(outfit), overlay),
        sources={digest: item.place for item, digest in digests.items()},
        warnings=tuple(warnings_of(items)),
    )
