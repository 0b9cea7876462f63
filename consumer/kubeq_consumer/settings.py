"""AgentConfig: everything an agent is told, read once from its environment. The only reader of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubeq.core.digest import Digest
from kubeq.core.machines import Machine
from kubeq.core.model import NodeName, PoolId
from kubeq.core.resources import Resources
from kubeq.core.wire import decode_machine
from kubeq.errors import UsageError
from kubeq.machine import whole_machine
from kubeq.release import check_release
from kubeq_consumer.silence import LOST_S

PREFIX = "KUBEQ_AGENT_"
SAVING_S = 10.0
"""Of the half minute of notice that Google gives, ten seconds are the command's, and something is left for the rest."""
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What an agent is told. Durations in seconds.

    `blobs_url` is the store that inputs are read from, usually that of the results.
    `outfit` is the blob of what is done around the attempts. `limit` is the most it may give to attempts (None: the
    whole machine). `until_idle`: leave as soon as the pool, that had an open job, has none. `grace_s` is how long a
    command has between TERM and KILL. `engine_url` is the Docker engine's, where DOCKER_HOST names one. `token` is what
    the agent shows to a relay. `machine` is what a cloud made for it. `log_here`: whoever started it sees the file of
    its log. `lost_after_s`: how long an agent that holds nothing waits for a queue that does not answer. `saving_s`:
    how long one that has to leave at once goes on storing checkpoints. `run_dir` is
    where it leaves signs of life, beside the log of how its machine came up; `notice` the URL that says when its
    machine is taken back.
    """

    pool: PoolId
    node: NodeName
    number: int
    provider: str
    queue_url: str
    store_url: str
    blobs_url: str
    state_dir: Path
    cache_dir: Path
    log_path: Path | None
    linger_s: float = 600.0
    linger_others_s: float = 60.0
    poll_s: float = 0.25
    until_idle: bool = False
    log_here: bool = False
    outfit: Digest | None = None
    limit: Resources | None = None
    grace_s: float = 10.0
    engine_url: str | None = None
    address: str | None = None
    machine: Machine | None = None
    lost_after_s: float = LOST_S
    saving_s: float = SAVING_S
    run_dir: Path | None = None
    notice: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """Where this node keeps what is its own."""
        return self.state_dir / "nodes" / self.node


def read_settings(environ: Mapping[str, str]) -> AgentConfig:
    """The settings in the environment. Raises UsageError that names every variable that is missing or wrong.

    Before all others it raises Conflict if RELEASE names another kubeq than this one, whose settings may be others.
    """
    if environ.get(PREFIX + "RELEASE"):
        check_release(environ[PREFIX + "RELEASE"])
    wrong: list[str] = []

    def text(name: str, default: str | None = None) -> str:
        value = environ.get(PREFIX + name, default)
        if value is None or value == "":
            wrong.append(f"{PREFIX}{name} is not set")
            return ""
        return value

    def number(name: str, default: float) -> float:
        value = environ.get(PREFIX + name, "")
        try:
            return float(value) if value else default
        except ValueError:
            wrong.append(f"{PREFIX}{name}={value!r} is not a number")
            return default

    def digest(name: str) -> Digest | None:
        value = environ.get(PREFIX + name, "")
        try:
            return Digest.parse(value) if value else None
        except ValueError:
            wrong.append(f"{PREFIX}{name}={value!r} is not a digest")
            return None

    def machine(name: str) -> Machine | None:
        value = environ.get(PREFIX + name, "")
        try:
            return decode_machine(json.loads(value)) if value else None
        except (ValueError, KeyError, TypeError):
            wrong.append(f"{PREFIX}{name}={value!r} is not a machine")
            return None

    node = text("NODE")
    if node and not _NODE.fullmatch(node):
        wrong.append(f"{PREFIX}NODE={node!r} is not a node name")
    state = Path(text("STATE", _folder(environ, "XDG_STATE_HOME", ".local/state")))
    cpu, memory = number("CPU", 0.0), number("MEMORY", 0.0)
    log, run = environ.get(PREFIX + "LOG", ""), environ.get(PREFIX + "RUN", "")
    settings = AgentConfig(
        pool=PoolId(text("POOL")),
        node=NodeName(node),
        number=int(number("NUMBER", 1)),
        provider=text("PROVIDER", "local"),
        queue_url=text("QUEUE"),
        store_url=text("STORE"),
        blobs_url=environ.get(PREFIX + "BLOBS") or environ.get(PREFIX + "STORE", ""),
        state_dir=state,
        cache_dir=Path(text("CACHE", _folder(environ, "XDG_CACHE_HOME", ".cache"))),
        log_path=Path(log) if log else None,
        linger_s=number("LINGER", 600.0),
        linger_others_s=number("LINGER_OTHERS", 60.0),
        poll_s=number("POLL", 0.25),
        until_idle=environ.get(PREFIX + "UNTIL_IDLE", "0") == "1",
        log_here=environ.get(PREFIX + "LOG_HERE", "0") == "1",
        outfit=digest("OUTFIT"),
        limit=Resources(cpu=cpu or whole_machine().cpu, memory=int(memory) or None) if cpu or memory else None,
        grace_s=number("GRACE", 10.0),
        engine_url=environ.get("DOCKER_HOST") or None,
        address=environ.get(PREFIX + "ADDRESS") or None,
        machine=machine("MACHINE"),
        lost_after_s=number("LOST_AFTER", LOST_S),
        saving_s=number("SAVING", SAVING_S),
        run_dir=Path(run) if run else None,
        notice=environ.get(PREFIX + "NOTICE") or None,
        token=_content(environ.get(PREFIX + "TOKEN_FILE", ""), wrong),
    )
    if wrong:
        raise UsageError(
            "the agent cannot start: " + "; ".join(wrong), hint="kubeq agent prints the whole command for an agent"
        )
    return settings


def _folder(environ: Mapping[str, str], variable: str, below_home: str) -> str | None:
    """Where things of that kind are kept here (XDG Base Directory Specification 0.8); None for a user with no home."""
    base = Path(environ.get(variable, ""))
    base = base if base.is_absolute() else Path(environ.get("HOME", "")) / below_home
    return str(base / "kubeq") if base.is_absolute() else None


def _content(path: str, wrong: list[str]) -> str | None:
    """What is in the file of a secret; None if there is none."""
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no text"
        wrong.append(f"{PREFIX}TOKEN_FILE={path!r} cannot be read: {why}")
        return None
