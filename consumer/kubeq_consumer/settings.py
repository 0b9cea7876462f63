"""AgentConfig: everything an agent is told, read once from its environment. The only reader of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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
T = TypeVar("T")
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
    told = _Told(environ)
    settings = AgentConfig(
        pool=PoolId(told.text("POOL")),
        node=told.node_name("NODE"),
        number=int(told.number("NUMBER", 1)),
        provider=told.text("PROVIDER", "local"),
        queue_url=told.text("QUEUE"),
        store_url=told.text("STORE"),
        blobs_url=told.optional("BLOBS") or told.optional("STORE") or "",
        state_dir=Path(told.text("STATE", _folder(environ, "XDG_STATE_HOME", ".local/state"))),
        cache_dir=Path(told.text("CACHE", _folder(environ, "XDG_CACHE_HOME", ".cache"))),
        log_path=told.path("LOG"),
        linger_s=told.number("LINGER", 600.0),
        linger_others_s=told.number("LINGER_OTHERS", 60.0),
        poll_s=told.number("POLL", 0.25),
        until_idle=told.flag("UNTIL_IDLE"),
        log_here=told.flag("LOG_HERE"),
        outfit=told.parsed("OUTFIT", Digest.parse, "a digest"),
        limit=told.limit(),
        grace_s=told.number("GRACE", 10.0),
        engine_url=environ.get("DOCKER_HOST") or None,
        address=told.optional("ADDRESS"),
        machine=told.parsed("MACHINE", lambda value: decode_machine(json.loads(value)), "a machine"),
        lost_after_s=told.number("LOST_AFTER", LOST_S),
        saving_s=told.number("SAVING", SAVING_S),
        run_dir=told.path("RUN"),
        notice=told.optional("NOTICE"),
        token=told.content("TOKEN_FILE"),
    )
    told.check()
    return settings


class _Told:
    """The agent's variables by their names without the prefix. What is wrong with them is kept until `check`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._wrong: list[str] = []

    def check(self) -> None:
        """Raises UsageError that names every variable that was asked for and is missing or wrong."""
        if self._wrong:
            raise UsageError(
                "the agent cannot start: " + "; ".join(self._wrong),
                hint="kubeq agent prints the whole command for an agent",
            )

    def optional(self, name: str) -> str | None:
        return self._environ.get(PREFIX + name) or None

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(PREFIX + name, default)
        if not value:
            self._wrong.append(f"{PREFIX}{name} is not set")
        return value or ""

    def node_name(self, name: str) -> NodeName:
        node = self.text(name)
        if node and not _NODE.fullmatch(node):
            self._wrong.append(f"{PREFIX}{name}={node!r} is not a node name")
        return NodeName(node)

    def parsed(self, name: str, parse: Callable[[str], T], kind: str) -> T | None:
        """What `parse` makes of it; None without a value."""
        value = self.optional(name)
        try:
            return None if value is None else parse(value)
        except (ValueError, KeyError, TypeError):
            self._wrong.append(f"{PREFIX}{name}={value!r} is not {kind}")
            return None

    def number(self, name: str, default: float) -> float:
        found = self.parsed(name, float, "a number")
        return default if found is None else found

    def flag(self, name: str) -> bool:
        return self.optional(name) == "1"

    def path(self, name: str) -> Path | None:
        value = self.optional(name)
        return None if value is None else Path(value)

    def limit(self) -> Resources | None:
        """The most it may give to attempts, where it is told of a limit to cores or to memory."""
        cpu, memory = self.number("CPU", 0.0), self.number("MEMORY", 0.0)
        if not cpu and not memory:
            return None
        return Resources(cpu=cpu or whole_machine().cpu, memory=int(memory) or None)

    def content(self, name: str) -> str | None:
        """What is in the file of a secret; None if there is none."""
        path = self.path(name)
        try:
            return None if path is None else path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no text"
            self._wrong.append(f"{PREFIX}{name}={str(path)!r} cannot be read: {why}")
            return None


def _folder(environ: Mapping[str, str], variable: str, below_home: str) -> str | None:
    """Where things of that kind are kept here (XDG Base Directory Specification 0.8); None for a user with no home."""
    base = Path(environ.get(variable, ""))
    base = base if base.is_absolute() else Path(environ.get("HOME", "")) / below_home
    return str(base / "kubeq") if base.is_absolute() else None
