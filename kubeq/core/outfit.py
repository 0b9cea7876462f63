"""What is done to a node around its attempts: the words of `--pre`, `--post` and `--overlay` as a record.

It is a blob, and its digest is part of the pool's identity: two jobs share nodes only if they ask for the same. So
commands that hold secrets stand in no process list and in no agent's environment.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.core.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """`pre` is run once before the node's first attempt, `post` once after its last one; lines for `/bin/sh`.

    `overlay` is the blob of an `Overlay`, which is laid before `pre` is run.
    """

    pre: str | None = None
    post: str | None = None
    overlay: Digest | None = None
