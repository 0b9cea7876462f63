"""A host as a place for agents: what it has, what is put there, which agents live there. Every step is a shell script.

On a host, `STATE` is `$XDG_STATE_HOME/kubeq` (`~/.local/state/kubeq`) and `CACHE` is `$XDG_CACHE_HOME/kubeq`
(`~/.cache/kubeq`) of the user who logs in. `CACHE/agents/DIGEST.pyz` is an agent archive. `STATE/nodes/NAME/` holds of
each node: `run.sh` (what keeps the agent), `agent.env` (what it is told), `process` (which process keeps it),
`agent.out` (what it printed), `agent.log`. Nothing is installed, and nothing outside of these two and of
`~/.ssh/authorized_keys` is written.
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
from kubeq.nodes.ssh_remote import Remote

LEAST_SPACE = 500 * 2**20
"""Bytes that must be free for the agent, its cache and its attempts: less would only fail later."""
LOAD_S = 600.0
"""For an engine to load an image that has arrived."""
_PLACES = "state=${XDG_STATE_HOME:-$HOME/.local/state}/kubeq; cache=${XDG_CACHE_HOME:-$HOME/.cache}/kubeq; umask 077\n"
_SURVEY = (
    _PLACES
    + """\
echo "machine $(uname -s) $(uname -m)"
for python in python3 python3.15 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3 /usr/local/bin/python3; do
    found=$("$python" -c 'import sys, ssl, zipfile; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    echo "python $found"
done
bounded() { if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi; }
if command -v docker >/dev/null 2>&1; then
    version=$(bounded docker version --format '{{.Server.Version}}' 2>&1) && echo "docker $version" ||
        echo "nodocker $(echo "$version" | tail -n 1)"
else
    echo "nodocker it is not installed"
fi
for place in "$state/nodes" "$cache/agents"; do
    said=$(mkdir -p "$place" 2>&1 && : 2>&1 > "$place/.probe.$$" && rm -f "$place/.probe.$$") ||
        echo "unwritable $place: ${said:-it cannot be written}"
done
echo "state $state"
echo "cache $cache"
echo "free $(df -Pk "$state" 2>/dev/null | awk 'NR == 2 { print $4 }')"
echo "cpus $(nproc 2>/dev/null || echo 1)"
"""
)
_ALIVE = """\
alive() {  # whether the process that is on record in $1 lives: the same pid, begun at the same time since the same boot
    [ -f "$1" ] && read -r pid began boot < "$1" || return 1
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
    [ "$began" = "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)" ]
}
"""
_KEYS = """\
without_key() {  # remove the lines of the key marked $1 from authorized_keys, all at once or not at all
    keys=$(readlink -f "$HOME/.ssh/authorized_keys") && grep -qF "$1" "$keys" || return 0
    cp -p "$keys" "$keys.kubeq" && { grep -vF "$1" "$keys" > "$keys.kubeq" || :; } && mv -f "$keys.kubeq" "$keys"
}
locked() {  # one at a time; a lock that is a minute old belongs to nobody any more
    tries=0
    until mkdir "$HOME/.ssh/.kubeq-lock" 2>/dev/null; do
        tries=$((tries + 1)); [ "$tries" -gt 60 ] && rmdir "$HOME/.ssh/.kubeq-lock" 2>/dev/null; sleep 1
    done
    "$@"; done_=$?; rmdir "$HOME/.ssh/.kubeq-lock"; return $done_
}
"""
RUN = f"""\
#!/bin/sh
# Keeps the agent of one kubeq node: starts it, hands on the wish to leave, and clears up behind it.
# Usage: run.sh KEY-MARK COMMAND...
cd "$(dirname "$0")" || exit 1
umask 077
mark=$1; shift
{_ALIVE}{_KEYS}
trap '' HUP
trap '[ -n "$agent" ] && kill -TERM "$agent" 2>/dev/null' TERM INT
set -a; . ./agent.env; set +a
"$@" &
agent=$!
wait "$agent"; code=$?
while kill -0 "$agent" 2>/dev/null; do wait "$agent"; code=$?; done
rm -f process token
for other in ../"${{KUBEQ_AGENT_POOL}}"-*/process; do
    if alive "$other"; then exit "$code"; fi
done
locked without_key "$mark"
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a host has. `python` is the newest Python 3's minor number; `docker` the version of an engine that answers.

    `no_docker` is the host's own word on why there is none; `wrong` what keeps it from being used at all.
    """

    machine: str
    python: int | None
    docker: str | None
    no_docker: str
    state: str
    cache: str
    free: int
    cpus: int
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An agent to be started: its variables, the words that run it, and the files (by name) that only it may read."""

    name: NodeName
    pool: PoolId
    environment: Mapping[str, str]
    command: Sequence[str]
    secrets: Mapping[str, str]


def survey(remote: Remote) -> Survey:
    """What the host has, looked at by one script. Raises BackendError if it does not answer."""
    said: dict[str, list[str]] = {}
    for line in remote.run(_SURVEY).out.splitlines():
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
        state=said.get("state", [""])[0],
        cache=said.get("cache", [""])[0],
        free=free,
        cpus=int(said.get("cpus", ["1"])[0]),
        wrong=tuple(wrong),
    )


def install(remote: Remote, found: Survey, archive: Path, digest: Digest) -> tuple[str, bool]:
    """Where the archive lies on the host, and whether it had to be sent. What lies there is verified."""
    path = f"{found.cache}/agents/{digest.sha256}.pyz"
    there = remote.run(f"sha256sum {shlex.quote(path)} 2>/dev/null | cut -c1-64").out.strip()
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
        raise BackendError(f"{remote.login}: the agent's image cannot be loaded: {_last(answer.err)}")
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


def authorise(remote: Remote, line: str, mark: str) -> None:
    """The key of the line may log in, in place of one with the same mark. Raises BackendError."""
    script = f"""{_KEYS}
mkdir -p -m 700 "$HOME/.ssh" || exit 1
add() {{
    : >> "$HOME/.ssh/authorized_keys" || return 1
    without_key {shlex.quote(mark)}
    keys=$(readlink -f "$HOME/.ssh/authorized_keys")
    if [ -s "$keys" ] && [ -n "$(tail -c 1 "$keys")" ]; then echo >> "$keys"; fi
    printf '%s\\n' {shlex.quote(line)} >> "$keys"
}}
umask 077
locked add"""
    answer = remote.run(script)
    if answer.code:
        raise BackendError(f"{remote.login}: ~/.ssh/authorized_keys cannot be written: {_last(answer.err)}")


def deauthorise(remote: Remote, mark: str) -> None:
    """The key of that mark may not log in any more. Raises BackendError."""
    answer = remote.run(f"{_KEYS}\nlocked without_key {shlex.quote(mark)}")
    if answer.code:
        raise BackendError(f"{remote.login}: ~/.ssh/authorized_keys cannot be written: {_last(answer.err)}")


def start(remote: Remote, found: Survey, what: Start, mark: str) -> int:
    """The pid of what keeps a new agent, or of the one that lives under that name. Raises BackendError."""
    directory = shlex.quote(f"{found.state}/nodes/{what.name}")
    variables = "".join(f"{name}={shlex.quote(value)}\n" for name, value in what.environment.items())
    files = {"run.sh": RUN, "agent.env": variables, **what.secrets}
    writes = "".join(
        f"printf '%s' {shlex.quote(text)} > {name}.new && mv -f {name}.new {name} || exit 1\n"
        for name, text in files.items()
    )
    words = " ".join(map(shlex.quote, (mark, *what.command)))
    answer = remote.run(
        f"""{_ALIVE}umask 077
mkdir -p {directory} && cd {directory} || exit 1
if alive process; then echo "$pid"; exit 0; fi
{writes}
setsid=$(command -v setsid)
# The shell that becomes the keeper waits until its record is written, so that no agent runs that is not on record.
rm -f gate; mkfifo gate || exit 1
$setsid sh -c 'read -r go < gate && exec sh ./run.sh "$@"' kubeq-node {words} </dev/null >>agent.out 2>&1 &
keeper=$!
began=$(sed 's/.*) //' "/proc/$keeper/stat" | cut -d' ' -f20)
echo "$keeper $began $(cat /proc/sys/kernel/random/boot_id)" > process.new && mv -f process.new process || exit 1
echo go > gate; rm -f gate
echo "$keeper"
"""
    )
    pid = answer.out.strip().rpartition("\n")[2]
    if answer.code or not pid.isdigit():
        raise BackendError(f"{remote.login}: the agent could not be started: {_last(answer.err)}")
    return int(pid)


def nodes_of(remote: Remote, pool: PoolId) -> Mapping[NodeName, Observation]:
    """The nodes of the pool that the host knows, dead ones with the last line that they printed."""
    answer = remote.run(
        f"""{_PLACES}{_ALIVE}cd "$state/nodes" 2>/dev/null || exit 0
for folder in {shlex.quote(pool)}-*; do
    [ -f "$folder/run.sh" ] || continue
    if alive "$folder/process"; then echo "alive $folder $pid"
    else
        state_=dead; ls "$folder"/spool/*.json >/dev/null 2>&1 && state_=spooled
        echo "$state_ $folder $(tail -c 4096 "$folder/agent.out" 2>/dev/null | grep . | tail -n 1)"
    fi
done
:"""
    )
    seen = {}
    for line in answer.out.splitlines():
        state, _, rest = line.partition(" ")
        name, _, detail = rest.partition(" ")
        alive = state == "alive"
        pid = int(detail) if alive and detail.isdigit() else None
        seen[NodeName(name)] = Observation(
            name=NodeName(name),
            alive=alive,
            pid=pid,
            reason=None if alive else detail.strip() or None,
            undelivered=state == "spooled",
        )
    return seen


def stop(remote: Remote, names: Iterable[NodeName]) -> None:
    """Ask those agents to give back what they run and leave; unknown or dead: no error."""
    remote.run(
        f"""{_PLACES}{_ALIVE}cd "$state/nodes" 2>/dev/null || exit 0
for name in {" ".join(map(shlex.quote, names))}; do alive "$name/process" && kill -TERM "$pid"; done
:"""
    )


def forget(remote: Remote, names: Iterable[NodeName]) -> None:
    """Remove the folders of those nodes that have ended and have delivered every outcome."""
    remote.run(
        f"""{_PLACES}{_ALIVE}cd "$state/nodes" 2>/dev/null || exit 0
for name in {" ".join(map(shlex.quote, names))}; do
    alive "$name/process" && continue
    ls "$name"/spool/*.json >/dev/null 2>&1 || rm -rf "$name"
done
:"""
    )


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "it said nothing"
