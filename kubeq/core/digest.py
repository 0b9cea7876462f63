"""Digest: the only name for bytes. A sha256 and a size, always together, always valid."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

_TEXT = re.compile(r"([0-9a-f]{64})-(0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Names immutable bytes. The size is part of the name: truncation shows before a single byte is hashed."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not _TEXT.fullmatch(str(self)):
            raise ValueError(f"not a digest: sha256 {self.sha256!r}, size {self.size!r}")

    def __str__(self) -> str:
        return f"{self.sha256}-{self.size}"

    @staticmethod
    def parse(text: str) -> Digest:
        """The digest written by `str`. Raises ValueError for anything else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"not a digest: {text!r}")
        return Digest(match[1], int(match[2]))

    @staticmethod
    def of(content: bytes) -> Digest:
        """The digest of bytes held in memory."""
        return Digest(hashlib.sha256(content).hexdigest(), len(content))


def digest_of_chunks(chunks: Iterable[bytes]) -> Digest:
    """The digest of bytes that come in pieces; none of them is kept."""
    hasher, size = hashlib.sha256(), 0
    for chunk in chunks:
        hasher.update(chunk)
        size += len(chunk)
    return Digest(hasher.hexdigest(), size)
