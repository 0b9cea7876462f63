"""Outcomes that could not be delivered yet, on disk: an agent that cannot reach the queue finishes later.

A file holds the whole grant and the end of its attempt. What a dead agent of the same pool left here is delivered by
the next one on this machine; a late outcome is accepted unless a newer attempt exists.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kubeq.core import wire
from kubeq.errors import KubeqError
from kubeq.queue.claims import Final
from kubeq.queue.wire import decode_final, encode_final
from kubeq.store.disk import disk_errors

log = logging.getLogger(__name__)


class Spool:
    """The spool of one node, in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, final: Final) -> None:
        """Keep it until `remove`; durable on return. Safe to repeat. Raises BackendError."""
        path = self._path(final)
        with disk_errors("keep an outcome in", path):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_suffix(".new")
            with temporary.open("w", encoding="utf-8") as file:
                file.write(wire.dumps(encode_final(final)))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)

    def remove(self, final: Final) -> None:
        """It has been delivered; one that cannot be removed is delivered again some day, which changes nothing."""
        with suppress(OSError):
            self._path(final).unlink(missing_ok=True)

    def load(self) -> Iterator[Final]:
        """Everything undelivered; a file that cannot be read is reported and left."""
        for path in sorted(self._root.glob("*.json")):
            try:
                yield decode_final(wire.loads(path.read_text(encoding="utf-8"), f"spooled outcome {path.name}"))
            except (KubeqError, KeyError, TypeError, ValueError, OSError) as error:
                log.warning("the spooled outcome %s cannot be read: %s", path, error)

    def _path(self, final: Final) -> Path:
        task = final.grant.task.id
        return self._root / f"{task.job}-{task.index}-{final.grant.attempt}.json"
