"""A host as a place for agents: what it has, what is put there, which agents live there. Every step is a shell script.

On a host, `STATE` is `$XDG_STATE_HOME/kubeq/hosts/HOST` (`~/.local/state/...`) and `CACHE` is `$XDG_CACHE_HOME/kubeq`
(`~/.cache/kubeq`) of the user who logs in; HOST is what the machine calls itself, since several may share a home.
`CACHE/agents/DIGEST.pyz` is an agent archive. `STATE/nodes/NAME/` holds of each node: `run.sh` (what keeps the agent),
`agent.env` (what it is told), `process` (which process keeps it), `agent.out` (what it printed), `agent.log`. Nothing
is installed, and nothing outside of these two and of `~/.ssh/authorized_keys` is written.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kubeq.core.digest import Digest
from kubeq.core.model import NodeName, PoolId
from kubeq.errors import BackendError
from kubeq.nodes.base import Observation
from kubeq.nodes.forms import ENGINE_SOCKET, SUPERVISE
from kubeq.nodes.ssh_remote import Remote, last_line
from kubeq.nodes.ssh_scripts import ALIVE, KEYS, PLACES, RESIDENTS, RUN, START, SURVEY, TIDY

LEAST_SPACE = 500 * 2**20
"""Bytes that must be free for the agent, its cache and its attempts: less would only fail later."""
LOOK_S = 20.0
"""For a host to say which nodes live there."""
LOAD_S = 600.0
"""For an engine to load an image that has arrived."""
KEPT_ARCHIVE_DAYS = 30
"""An agent's archive that no launch has needed for so long goes: it is of another kubeq by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a host has. `python` is the newest Python 3's minor number; `docker` the version of an engine that answers.

    `no_docker` is the host's own word on why there is none; `no_engine`: and there can be none, as it is not installed;
    `wrong` is what keeps the host from being used at all.
    """

    machine: str
    python: int | None
    docker: str | None
    no_docker: str
    no_engine: bool
    state: str
    cache: str
    free: int
    cpus: int
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residents:
    """The nodes of one pool that a host knows, and whether the pool's key may log in there."""

    nodes: Mapping[NodeName, Observation]
    has_key: bool

    @property
    def live(self) -> bool:
        """Whether any of them lives."""
        return any(seen.alive for seen in self.nodes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An agent to be started: its variables, the words that run it, and the files (by name) that only it may read.

    `key` is the line for authorized_keys that lets its pool in, and `mark` what is found in that line alone.
    """

    name: NodeName
    key: str
    mark: str
    environment: Mapping[str, str]
    command: Sequence[str]
    secrets: Mapping[str, str]


def survey(remote: Remote) -> Survey:
    """What the host has, looked at by one script. Raises BackendError if it does not answer."""
    said: dict[str, list[str]] = {}
    for line in remote.run(SURVEY).out.splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest)
    system, _, machine = said.get("machine", [""])[0].partition(" ")
    wrong = list(said.get("unwritable", []))
    if system != "Linux":
        wrong.insert(0, f"it runs {system or 'something unknown'}; agents need Linux")
    kilobytes = said.get("free", [""])[0]
    free = int(kilobytes) * 1024 if kilobytes.isdigit() else 0
    if not wrong and free < LEAST_SPACE:
        wrong.append(f"{said['state'][0]} has only {free // 2**20} MiB free; {LEAST_SPACE // 2**20} MiB is the least")
    minors = [int(version.partition(".")[2]) for version in said.get("python", []) if version.startswith("3.")]
    return Survey(
        machine=machine,
        python=max(minors, default=None),
        docker=said.get("docker", [None])[0],
        no_docker=said.get("nodocker", [""])[0],
        no_engine="noengine" in said,
        state=said.get("state", [""])[0],
        cache=said.get("cache", [""])[0],
        free=free,
        cpus=int(said.get("cpus", ["1"])[0]),
        wrong=tuple(wrong),
    )


def install(remote: Remote, found: Survey, archive: Path, digest: Digest) -> tuple[str, bool]:
    """Where the archive lies on the host, and whether it had to be sent. What lies there is verified."""
    path = f"{found.cache}/agents/{digest.sha256}.pyz"
    answer = remote.run(
        f"touch -c {shlex.quote(path)}; sha256sum {shlex.quote(path)} 2>/dev/null | cut -c1-64; "
        f"find {shlex.quote(found.cache)}/agents -name '*.pyz*' -mtime +{KEPT_ARCHIVE_DAYS} -exec rm -f {{}} +"
    )
    there = answer.out.strip()
    if there == digest.sha256:
        return path, False
    remote.put(path, lambda: archive.open("rb"), digest, timeout_s=120.0)
    return path, True


def install_image(remote: Remote, image: str, id: str, save: Callable[[], AbstractContextManager[BinaryIO]]) -> bool:
    """Have the image of that name and id on the host's engine; whether it had to be sent. Raises BackendError."""
    quoted = shlex.quote(image)
    if remote.run(f"docker image inspect --format '{{{{.Id}}}}' {quoted} 2>/dev/null").out.strip() == id:
        return False
    with save() as archive:
        answer = remote.feed("exec docker load -q", archive, timeout_s=LOAD_S)
    if answer.code:
        raise BackendError(f"{remote.login}: the agent's image cannot be loaded: {last_line(answer.err)}")
    return True


def image_words(found: Survey, image: str, name: NodeName, variables: Iterable[str]) -> list[str]:
    """The words that run the agent's image there, as the user who logs in; the variables have their values by then."""
    passed = " ".join(f"--env {variable}" for variable in variables)
    state, cache = shlex.quote(found.state), shlex.quote(found.cache)
    script = (
        f'exec docker run --rm --name kubeq-{name} --network host --pid host --user "$(id -u):$(id -g)" '
        f'--group-add "$(stat -c %g {ENGINE_SOCKET})" --env HOME={state} {passed} '
        f"--volume {ENGINE_SOCKET}:{ENGINE_SOCKET} --volume {state}:{state} --volume {cache}:{cache} "
        f"{shlex.quote(image)} {SUPERVISE}"
    )
    return ["sh", "-c", script]


def start(remote: Remote, found: Survey, what: Start) -> int:
    """The pid of what keeps a new agent, or of the one that lives under that name. Raises BackendError.

    The pool's key is let in by the same step, so that nobody who looks for unused ones takes it away in between.
    """
    variables = "".join(f"{name}={shlex.quote(value)}\n" for name, value in what.environment.items())
    files = {"run.sh": RUN, "agent.env": variables, **what.secrets}
    writes = "".join(
        f"printf '%s' {shlex.quote(text)} > {name}.new && mv -f {name}.new {name} || return 1\n"
        for name, text in files.items()
    )
    answer = remote.run(
        f"""{START}{TIDY}
mark={shlex.quote(what.mark)}; line={shlex.quote(what.key)}; nodes={shlex.quote(f"{found.state}/nodes")}
tidy "$nodes"
write() {{
if alive process; then return 0; fi
{writes}}}
mkdir -p "$nodes"/{shlex.quote(what.name)} && cd "$nodes"/{shlex.quote(what.name)} && write || exit 1
locked begin {" ".join(map(shlex.quote, what.command))}"""
    )
    pid = answer.out.strip().rpartition("\n")[2]
    if answer.code or not pid.isdigit():
        raise BackendError(f"{remote.login}: the agent could not be started: {last_line(answer.err)}")
    return int(pid)


def sweep_key(remote: Remote, pool: PoolId, mark: str) -> None:
    """The pool's key, which has that mark, may not log in any more, unless a node of the pool lives there.

    Raises BackendError.
    """
    words = f'{shlex.quote(mark)} "$state" {shlex.quote(pool)}'
    answer = remote.run(f"{PLACES}{KEYS}locked without_unused_key {words}")
    if answer.code:
        raise BackendError(f"{remote.login}: ~/.ssh/authorized_keys cannot be written: {last_line(answer.err)}")


def residents(remote: Remote, pool: PoolId, mark: str) -> Residents:
    """What the host knows of the pool. Raises BackendError if it does not answer."""
    answer = remote.run(
        f"{PLACES}{ALIVE}{RESIDENTS}residents {shlex.quote(pool)} {shlex.quote(mark)}",
        timeout_s=LOOK_S,
    )
    seen = {}
    for line in answer.out.splitlines():
        state, _, rest = line.partition(" ")
        name, _, detail = rest.partition(" ")
        if not name:
            continue
        alive = state == "alive"
        pid = int(detail) if alive and detail.isdigit() else None
        seen[NodeName(name)] = Observation(
            name=NodeName(name),
            alive=alive,
            pid=pid,
            reason=None if alive else detail.strip() or None,
            undelivered=state == "spooled",
        )
    return Residents(nodes=seen, has_key="key" in answer.out.splitlines())


def stop(remote: Remote, names: Iterable[NodeName]) -> None:
    """Ask those agents to give back what they run and leave; unknown or dead: no error."""
    remote.run(
        f"""{PLACES}{ALIVE}cd "$state/nodes" 2>/dev/null || exit 0
for name in {" ".join(map(shlex.quote, names))}; do alive "$name/process" && kill -TERM "$pid"; done
:"""
    )


def forget(remote: Remote, names: Iterable[NodeName]) -> None:
    """Remove the folders of those nodes that have ended and have delivered every outcome."""
    remote.run(
        f"""{PLACES}{ALIVE}cd "$state/nodes" 2>/dev/null || exit 0
for name in {" ".join(map(shlex.quote, names))}; do
    alive "$name/process" && continue
    ls "$name"/spool/*.json >/dev/null 2>&1 || rm -rf "$name"
done
:"""
    )


def tidy(remote: Remote) -> None:
    """Remove the folders of nodes of any pool that ended more than a day ago and have delivered every outcome."""
    remote.run(f'{PLACES}{ALIVE}{TIDY}tidy "$state/nodes"')
