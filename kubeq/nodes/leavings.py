"""The folders that ended nodes of this machine leave: which of them nobody needs any more.

Who an agent is says the mark in its own `agent.json`; it is there also when the agent was started by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from kubeq.core.model import PoolId
from kubeq.machine import ProcessMark, has_ended


def is_of(name: str, pool: PoolId) -> bool:
    """Whether a node of that name belongs to the pool; nothing is read."""
    return name.rpartition("-")[0] == pool


def agent_has_ended(directory: Path) -> bool:
    """Whether the agent of the folder has certainly ended, or has never come to write who it is."""
    try:
        mark = ProcessMark.parse(str(json.loads((directory / "agent.json").read_text())["agent"]))
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return mark is None or has_ended(mark)


def last_change(directory: Path) -> float:
    """When something in the folder was last written, in epoch seconds."""
    return max(path.lstat().st_mtime for path in (directory, *directory.iterdir()))


def has_undelivered(directory: Path) -> bool:
    """Whether outcomes lie there that the queue has not got yet."""
    return any((directory / "spool").glob("*.json"))
