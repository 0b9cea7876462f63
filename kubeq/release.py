"""Which kubeq this is: its version, and a digest of the code that an agent runs.

Two installations are the same release when both are equal. The libraries below kubeq are no part of it: an agent may
have a newer one of those than its submitter. Nothing is imported to find the agent's code; its files are looked at.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import kubeq
from kubeq.errors import Conflict, UsageError

AGENT = "kubeq_consumer"
OF_THE_USER = frozenset({"actions", "cli", "config", "nodes", "relay"})
"""The packages of kubeq that are used on the submitter's machine alone. An agent has none of them."""
_SHIPPED = (".py", ".x86_64", ".aarch64")
"""The endings of what pip installs: Python, and the small program that containers start with."""
_DIGITS = 12


def agent_code() -> Mapping[str, Path]:
    """The files of this installation that an agent needs, by the path that each has below a folder of packages.

    Raises UsageError if the agent was left out of it.
    """
    root = Path(kubeq.__file__).resolve().parent
    places = [root.parent / AGENT, root.parent / "consumer" / AGENT]
    agent = next((place for place in places if (place / "__main__.py").is_file()), None)
    if agent is None:
        raise UsageError(
            f"this kubeq has no agent: there is no {AGENT} beside {root}", hint="install kubeq again: pip install kubeq"
        )
    found = [*_files(root, "kubeq/", skip={*OF_THE_USER, "__main__.py"}), *_files(agent, f"{AGENT}/")]
    return {name: Path(path) for name, path in sorted(found)}


@cache
def this_release() -> str:
    """Version and code of this installation, as in `0.1.0+1f0a52c9e7d3`."""
    hasher = hashlib.sha256()
    for name, path in agent_code().items():
        hasher.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return f"{kubeq.__version__}+{hasher.hexdigest()[:_DIGITS]}"


def check_release(wanted: str) -> None:
    """Raises Conflict unless this is that release."""
    mine = this_release()
    if mine != wanted:
        raise Conflict(
            f"this agent is of kubeq {mine}, and whoever started it wants kubeq {wanted}",
            hint="start it as kubeq agent says, with the archive or the image of that release",
        )


def _files(folder: Path | str, prefix: str, skip: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Names and paths of what is shipped, without the entries of the folder that are to be skipped."""
    for entry in os.scandir(folder):
        if entry.name in skip or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SHIPPED):
            yield prefix + entry.name, entry.path
