"""How a server that stands in for a cloud service is had and run: for tests only, and gone when they end.

A server gets a virtual environment of its own in the cache folder, because some pin libraries that kubeq uses in other
versions. It listens on this machine alone. What cannot be had skips the tests on a laptop and fails them in CI.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

PATIENCE_S = 60.0
"""For a server to become ready: a hundred times what it takes on an idle machine."""
PORTS = range(20_000, 32_768)
"""Below the kernel's own range, where an outgoing connection may take a port between our look and the bind."""
PORT_TRIES = 5
_DIE_WITH_THE_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes the server, which the kernel kills when the thread that started it ends: pytest's main thread. Not between
fork and exec of the tests' own process: gRPC, once it runs there, does not survive a fork."""


def cache_folder() -> Path:
    """Where what was installed for tests is kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubeq"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def unavailable(reason: str) -> NoReturn:
    """End the test: skipped on a laptop, failed in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def installed(*requirements: str) -> Path:
    """The `bin` folder of an environment with exactly these packages (`name==version`), made on first use.

    One at a time, also among processes; an installation that was cut short is made again.
    """
    mark = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = cache_folder() / "stand-ins" / f"{requirements[0].partition('=')[0]}-{mark}"
    with _locked(folder.with_suffix(".lock")):
        if not (folder / "complete").exists():
            made = [sys.executable, "-m", "venv", "--clear", str(folder)]
            filled = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *requirements]
            for command in (made, filled):
                done = subprocess.run(command, capture_output=True, text=True, timeout=600)
                if done.returncode != 0:
                    unavailable(f"{' '.join(requirements)} cannot be installed: {done.stderr.strip()[-500:]}")
            (folder / "complete").touch()
    return folder / "bin"


class Server:
    """A running server process of ours."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self) -> None:
        """Return when it is gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(
    command: Callable[[int], Sequence[str]],
    environment: Callable[[int], Mapping[str, str]],
    ready: Callable[[Server], bool],
    folder: Path,
) -> Iterator[Server]:
    """A server that is ready, ended when the block is left, and by the kernel if this process dies.

    Command and environment are made for a port. `ready` tries a real operation; a port that answers is no proof. A
    server that ends by itself before it is ready, as for a port that was taken meanwhile, is started on another.
    """
    for attempt in range(1, PORT_TRIES + 1):
        server = _started(command, environment, folder)
        try:
            if _becomes_ready(server, ready):
                yield server
                return
            if attempt == PORT_TRIES:
                raise RuntimeError(f"the server ended with code {server.process.returncode}: {server.said()}")
        finally:
            server.stop()


def _started(
    command: Callable[[int], Sequence[str]], environment: Callable[[int], Mapping[str, str]], folder: Path
) -> Server:
    port = free_port()
    log = folder / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _DIE_WITH_THE_PARENT, *command(port)],
            env=environment(port),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Server(process, port, log)


def _becomes_ready(server: Server, ready: Callable[[Server], bool]) -> bool:
    """False if the process ended; raises when it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            return False
        if ready(server):
            return True
        time.sleep(0.05)
    raise TimeoutError(f"the server was not ready after {PATIENCE_S:.0f} s: {server.said()}")


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
