"""The real command line in an empty home, with real agents; everything it started is gone when a test ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from kubeq.actions.finding import find_job
from kubeq.actions.session import Session
from kubeq.actions.status import count_states
from kubeq.config import load_config
from kubeq.core.transitions import job_status

ROOT = Path(__file__).parents[1]


@contextmanager
def _obeying_interrupts() -> Iterator[None]:
    """A block whose children obey Ctrl-C. Tests may themselves run in the background of a shell, where nobody does.

    (A signal that is handled is not ignored in what is executed. Not by a function between fork and exec: gRPC, once it
    runs in the tests' process, does not survive a fork.)
    """
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_TUNNELS = ("kubeq.nodes.ssh_tunnels",)


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield int(path.parent.name), path.read_bytes().decode(errors="replace").split("\0")[:-1]


class Home:
    """One user's home: state, caches and a working directory of their own."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.root = root
        self.cwd = root / "project"
        self.cwd.mkdir(parents=True)
        self.state = root / "state" / "kubeq"
        self._started: list[subprocess.Popen[str]] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KUBEQ_")}
        self.env = {
            **kept,
            "HOME": str(root),
            "XDG_STATE_HOME": str(root / "state"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "XDG_CONFIG_HOME": str(root / "config"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}",
            "KUBEQ_LINGER": "5",
            **environment,
        }

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """A kubeq command in the background; it ends with the home."""
        with _obeying_interrupts():
            process = subprocess.Popen(
                [sys.executable, "-m", "kubeq", *arguments],
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **more,
            )
        self._started.append(process)
        return process

    def run(self, *arguments: str, code: int | None = 0, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """A kubeq command to its end; fails the test if the exit code is another."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"kubeq {' '.join(arguments)} did not end in {timeout} s\n{out}\n{err}\n{self.agent_logs()}")
        done = subprocess.CompletedProcess(arguments, process.returncode, out, err)
        if code is not None and done.returncode != code:
            pytest.fail(
                f"kubeq {' '.join(arguments)}: exit {done.returncode}, not {code}\n{out}\n{err}\n{self.agent_logs()}"
            )
        return done

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """The JSON value that a command answers."""
        return json.loads(self.run("--json", *arguments, code=code).stdout)

    def submit(self, *arguments: str) -> str:
        """The id of a job that is not waited for."""
        return self.run("-q", "sub", "--no-wait", *arguments).stdout.strip()

    def status(self, job: str) -> Any:
        return self.json("status", job)["jobs"][0]

    @cached_property
    def _session(self) -> Session:
        return Session(
            load_config(
                file=None, profile=None, overrides=(), environ=self.env, cwd=self.cwd, home=Path(self.env["HOME"])
            )
        )

    def stands(self, job: str) -> str:
        """The status of a job, for waiting: asked in this process, as one command after another takes a processor."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            found = find_job(self._session, job)
            return job_status(found, count_states(self._session.queue.outcomes(found.id))).value

    def tasks(self, job: str) -> list[Any]:
        return list(self.json("list", job)["tasks"])

    def agents(self) -> dict[str, int]:
        """Node names and pids of the agents that live."""
        found = {}
        for path in self.state.glob("nodes/*/process.json"):
            pid = json.loads(path.read_text())["pid"]
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"kubeq_consumer" in command.read_bytes():
                found[path.parent.name] = pid
        return found

    def relay(self) -> int | None:
        """The pid of the relay that runs."""
        try:
            pid = int(json.loads((self.state / "relay/relay.json").read_text())["process"].split(".")[0])
            return pid if b"kubeq.relay" in Path(f"/proc/{pid}/cmdline").read_bytes() else None
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None

    def tunnels(self) -> int | None:
        """The pid of what keeps the tunnels of this home."""
        return next((pid for pid, words in _command_lines() if words[-2:] == [*_TUNNELS, str(self.state)]), None)

    def agent_logs(self) -> str:
        """The end of what every agent wrote, for a test that fails."""
        pieces = [
            f"--- {path}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted([*self.root.rglob("nodes/*/agent.*"), *self.state.glob("relay/relay.*")])
            if path.suffix in (".log", ".out")
        ]
        return "\n".join(pieces)[-8000:]

    def end(self) -> None:
        """No command and no agent of this home is left, and no relay."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
        for pid in self.agents().values():
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while self.agents() and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self.agents().values():
            os.kill(pid, signal.SIGKILL)
        for pid in filter(None, (self.relay(), self.tunnels())):
            os.kill(pid, signal.SIGKILL)


def eventually(question: Callable[[], Any], what: str, home: Home, timeout: float = 90) -> Any:
    """The first truthy answer; fails with the last one after the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout} s: {what}; last answer {answer!r}\n{home.agent_logs()}")
        time.sleep(0.1)
