"""Which kubeq this is: its version, and a digest of the code that an agent runs.

Two installations are the same release when both are equal. The libraries below kubeq are no part of it: an agent may
have a newer one of those than its submitter. Nothing is imported to find the agent's code; its files are looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import kubeq
from kubeq.errors import Conflict, UsageError

AGENT = "kubeq_consumer"
OF_THE_USER = frozenset({"actions", "cli", "config", "nodes"})
"""The packages of kubeq that the command line alone uses. An agent has none of them."""
_SHIPPED = frozenset({".py", ".x86_64", ".aarch64"})
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
    ours = (path for path in _files(root) if path.relative_to(root).parts[0] not in {*OF_THE_USER, "__main__.py"})
    found = {f"{package.name}/{path.relative_to(package)}": path for package in (root,) for path in ours}
    found |= {f"{AGENT}/{path.relative_to(agent)}": path for path in _files(agent)}
    return dict(sorted(found.items()))


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


def _files(package: Path) -> Iterator[Path]:
    return (path for path in package.rglob("*") if path.suffix in _SHIPPED and path.is_file())
