"""What has to be given to a process to become an agent: its environment and its command. Starts nothing.

The names of the variables are those that the agent's settings read. How an agent reaches another machine than this one,
and what is run there, is in `forms`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import kubeq
from kubeq.core.model import NodeName
from kubeq.nodes.base import NodeRequest
from kubeq.release import AGENT, this_release

PREFIX = "KUBEQ_AGENT_"
TOKEN_FILE = f"{PREFIX}TOKEN_FILE"
LOG_HERE = {f"{PREFIX}LOG_HERE": "1"}
"""For an agent of this machine: its log file can be read here, and need not be in a store that is here too."""


def node_directory(state_dir: Path, name: NodeName) -> Path:
    """Where a node of this machine keeps its log and what is known of its process."""
    return state_dir / "nodes" / name


def agent_environment(request: NodeRequest, name: NodeName, number: int, provider: str) -> dict[str, str]:
    """The agent's own variables for the node of that name and number."""
    variables = {
        "RELEASE": this_release(),
        "POOL": request.pool,
        "NODE": name,
        "NUMBER": str(number),
        "PROVIDER": provider,
        "QUEUE": request.queue_url,
        "STORE": request.store_url,
        **({"BLOBS": request.blobs_url} if request.blobs_url != request.store_url else {}),
        "STATE": str(request.state_dir),
        "CACHE": str(request.cache_dir),
        "LINGER": f"{request.linger_s:g}",
        "LINGER_OTHERS": f"{request.linger_others_s:g}",
        "POLL": f"{request.poll_s:g}",
        "UNTIL_IDLE": str(int(request.until_idle)),
        **({"OUTFIT": str(request.outfit)} if request.outfit is not None else {}),
        "LOG": str(node_directory(request.state_dir, name) / "agent.log"),
    }
    if request.limit is not None:
        variables["CPU"] = f"{request.limit.cpu:g}"
        if request.limit.memory is not None:
            variables["MEMORY"] = str(request.limit.memory)
    return {PREFIX + key: value for key, value in variables.items()}


def agent_command() -> list[str]:
    """The words that start an agent with this Python."""
    return [sys.executable, "-m", AGENT]


def whole_environment(caller: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without anything of kubeq's, and the agent's own variables."""
    environment = {name: value for name, value in caller.items() if not name.startswith("KUBEQ_")}
    path = python_path(caller.get("PYTHONPATH", ""))
    return {**environment, **({"PYTHONPATH": path} if path else {}), **own}


def python_path(given: str) -> str:
    """A PYTHONPATH under which the agent is found from any directory, also when kubeq runs from a checkout."""
    root = Path(kubeq.__file__).resolve().parents[1]
    checkout = [root, root / "consumer"] if (root / "consumer" / AGENT).is_dir() else []
    kept = [Path(part).absolute() for part in given.split(os.pathsep) if part]
    return os.pathsep.join(dict.fromkeys(str(path) for path in (*checkout, *kept)))
