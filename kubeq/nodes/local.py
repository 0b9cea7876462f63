"""Nodes of this machine: agent processes in sessions of their own, which outlive the shell that started them.

`<state folder>/nodes/<name>/` holds `process.json` (which process it is), `agent.out` (what it printed) and `agent.log`
(its log, written by the agent itself). Nothing else remembers a node.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.errors import BackendError
from kubeq.machine import MOUNTS, ProcessMark, has_ended, mark_of, network_file_system, pid_namespace, whole_machine
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeRequest, NoMachines, Observation, Refused
from kubeq.nodes.boot import LOG_HERE, agent_command, agent_environment, node_directory, whole_environment
from kubeq.nodes.leavings import agent_has_ended, has_undelivered, is_of, last_change
from kubeq.nodes.processes import send_signal

RECORD = "process.json"
PRINTED = "agent.out"
_GATE = 'read -r go && exec "$@" </dev/null'
"""The agent starts only once its process is on record: if the launcher dies before, `read` fails and nothing runs."""
_REASON_BYTES = 4096
_LONGEST_REASON = 500


class LocalProvider(NoMachines):
    """A NodeProvider whose nodes are processes of this machine; `command` is what each runs."""

    name: ClassVar[str] = "local"
    capabilities: NodeCapabilities = NodeCapabilities(reach=Reach.HOST, costs_money=False)

    def __init__(self, state_dir: Path, command: Sequence[str] | None = None, mounts: Path = MOUNTS) -> None:
        self._state_dir = state_dir
        self._mounts = mounts
        self._command = command
        self._children: list[subprocess.Popen[bytes]] = []

    def largest(self) -> Resources:
        """The cores this process may use and the physical memory."""
        return whole_machine()

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        """See NodeProvider."""
        return ()

    def usual(self, tasks: int) -> int:
        """One agent takes the whole machine."""
        return 1

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        """See NodeProvider. One process a name; a lock a name keeps two launchers apart."""
        answers: dict[NodeName, Launched | Refused] = {}
        for name, number in names.items():
            try:
                with self._locked(name) as directory:
                    standing = _read_record(directory)
                    alive = standing is not None and not has_ended(standing[1])
                    pid = standing[1].pid if standing and alive else self._start(request, name, number, directory)
                answers[name] = Launched(name=name, pid=pid)
            except OSError as error:
                answers[name] = Refused(name=name, reason=f"{error.filename or name}: {error.strerror or error}")
            except BackendError as error:
                answers[name] = Refused(name=name, reason=error.message)
        return answers

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        """See NodeProvider. A dead one's reason is the last line it printed."""
        self._reap()
        seen: dict[NodeName, Observation] = {}
        for name, directory in self._directories():
            if not is_of(name, pool):
                continue
            standing = _read_record(directory)
            if standing is None or standing[0] != pool:
                continue
            mark, alive = standing[1], not has_ended(standing[1])
            reason = None if alive else _last_line(directory / PRINTED)
            left = not alive and has_undelivered(directory)
            seen[name] = Observation(name=name, alive=alive, pid=mark.pid, reason=reason, undelivered=left)
        return seen

    def silent(self, pool: PoolId) -> Mapping[str, str]:
        """See NodeProvider. This machine always answers."""
        return {}

    def terminate(self, names: Sequence[NodeName]) -> None:
        """See NodeProvider. SIGTERM: the agent gives its work back and leaves."""
        for name in names:
            standing = _read_record(node_directory(self._state_dir, name))
            if standing is not None:
                send_signal(standing[1], signal.SIGTERM)
        self._reap()

    def command(self, node: Node, words: Sequence[str], *, terminal: bool) -> list[str]:
        """See NodeProvider. They run as they are: the node is this machine."""
        return list(words) or [os.environ.get("SHELL") or "/bin/sh"]

    def forget(self, pool: PoolId | None, older_s: float) -> None:
        """See NodeProvider. Their folders go, logs and all; one that cannot be removed stays."""
        self._reap()
        for name, directory in self._directories():
            if pool is not None and not is_of(name, pool):
                continue
            with suppress(OSError):
                unchanged_s = time.time() - last_change(directory)  # before the lock, which may be a new file there
                if unchanged_s < older_s or (pool is None and has_undelivered(directory)):
                    continue
                with self._locked(name):
                    standing = _read_record(directory)
                    if (standing is None or has_ended(standing[1])) and agent_has_ended(directory):
                        shutil.rmtree(directory)

    def _start(self, request: NodeRequest, name: NodeName, number: int, directory: Path) -> int:
        """The pid of a new agent, which begins to run when its record is durable."""
        if (kind := network_file_system(directory, self._mounts)) is not None:
            raise BackendError(
                f"{self._state_dir} is on a network file system ({kind}), and agents of several machines that share "
                "it would take each other for dead; set state_dir to a folder on a disk of this machine"
            )
        own = agent_environment(request, name, number, self.name) | LOG_HERE
        command = self._command if self._command is not None else agent_command()
        with (directory / PRINTED).open("ab") as printed:
            child = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "kubeq-agent", *command],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                cwd="/",
                env=whole_environment(os.environ, own),
                start_new_session=True,
            )
        assert child.stdin is not None
        with child.stdin:
            mark = mark_of(child.pid)
            if mark is not None:
                _write_record(directory, request.pool, number, mark)
                with suppress(BrokenPipeError):
                    child.stdin.write(b"go\n")
        self._children.append(child)
        return child.pid

    def _reap(self) -> None:
        """Take the exit status of children that have ended, so that they do not stay as zombies."""
        self._children = [child for child in self._children if child.poll() is None]

    def _directories(self) -> list[tuple[NodeName, Path]]:
        try:
            found = [entry for entry in (self._state_dir / "nodes").iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BackendError(f"the nodes of this machine cannot be listed: {error}") from error
        return sorted((NodeName(entry.name), entry) for entry in found)

    @contextmanager
    def _locked(self, name: NodeName) -> Iterator[Path]:
        directory = node_directory(self._state_dir, name)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(handle)


def _write_record(directory: Path, pool: PoolId, number: int, mark: ProcessMark) -> None:
    process = {"pid": mark.pid, "started": mark.started, "boot": mark.boot, "namespace": mark.namespace}
    temporary = directory / f"{RECORD}.new"
    with temporary.open("w") as file:
        json.dump({"schema": 1, "pool": pool, "number": number, **process}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / RECORD)


def _read_record(directory: Path) -> tuple[PoolId, ProcessMark] | None:
    """The pool and the process on record; a record cut short by a crash is none.

    One that names no pid namespace is of this one.
    """
    try:
        record: dict[str, Any] = json.loads((directory / RECORD).read_text())
        mark = ProcessMark(
            pid=int(record["pid"]),
            started=int(record["started"]),
            boot=str(record["boot"]),
            namespace=str(record.get("namespace", pid_namespace())),
        )
        return PoolId(str(record["pool"])), mark
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _last_line(path: Path) -> str | None:
    """The last line that holds anything, of a file that may be long."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _REASON_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return None
    return next((line[:_LONGEST_REASON] for line in reversed(lines) if line), None)
