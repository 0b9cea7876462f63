"""What a pool's nodes unpack and start, as its row has it: a directory of the user's with a program in it."""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.core.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Files that every node of a pool unpacks, and a program of theirs that it starts once.

    `number` says which injection it was, counted in its pool. `content` is the blob of an `Overlay`: what is below the
    package's folder. `entry` is the program's path there.
    """

    number: int
    name: str
    content: Digest
    entry: str
