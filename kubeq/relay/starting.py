"""Having a relay run: finding the one that does, or starting it as a process that outlives the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubeq
from kubeq.errors import BackendError
from kubeq.nodes.boot import whole_environment
from kubeq.nodes.processes import send_signal
from kubeq.relay.home import Record, RelayHome
from kubeq.sockets import connected

PATIENCE_S = 20.0
"""For a relay to come up, or for one of another kubeq to end: a hundred times what it takes."""
_LOOK_S = 0.02
_LONGEST_REASON = 500


def ensure_relay(state_dir: Path) -> Record:
    """The relay of that state folder, started if none runs, and again if it is another kubeq's. Raises BackendError.

    Whoever admits a node does that first: a relay that has nobody to serve ends.
    """
    home = RelayHome(state_dir)
    deadline = time.monotonic() + PATIENCE_S
    process: subprocess.Popen[bytes] | None = None
    while True:
        record = home.record()
        if record is not None and record.version != kubeq.__version__:
            send_signal(record.mark, signal.SIGTERM)
        elif record is not None and _is_listening(home.socket):
            return record
        elif process is None or process.poll() == 0:  # another was faster, and has ended since
            process = begin_relay(state_dir)
        elif process.poll() is not None:
            raise BackendError(f"the relay in {home.folder} cannot be started: {_reason(home)}")
        if time.monotonic() > deadline:
            raise BackendError(
                f"the relay in {home.folder} does not come up in {PATIENCE_S:g} s", hint=f"look into {home.log}"
            )
        time.sleep(_LOOK_S)


def begin_relay(state_dir: Path) -> subprocess.Popen[bytes] | None:
    """A process that is to become the relay; None if there is one already. Waits for nothing. Raises BackendError."""
    home = RelayHome(state_dir)
    with home.turn():
        taken = home.is_taken()
    return None if taken else _start(home, state_dir)


def last_begun_at(state_dir: Path) -> float:
    """When somebody last tried to start a relay, epoch seconds; 0 if nobody has."""
    try:
        return RelayHome(state_dir).printed.stat().st_mtime
    except OSError:
        return 0.0


def _start(home: RelayHome, state_dir: Path) -> subprocess.Popen[bytes]:
    """A process that becomes the relay, unless another does so first. It belongs to no terminal."""
    try:
        with home.printed.open("wb") as printed:
            return subprocess.Popen(
                [sys.executable, "-m", "kubeq.relay", str(state_dir)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                cwd="/",
                env=whole_environment(os.environ, {}),
                start_new_session=True,
            )
    except OSError as error:
        raise BackendError(f"the relay cannot be started: {error.strerror or error}") from error


def _reason(home: RelayHome) -> str:
    """The last line that it printed."""
    try:
        lines = [line.strip() for line in home.printed.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    return next((line[:_LONGEST_REASON] for line in reversed(lines) if line), "it does not say why")


def _is_listening(path: Path) -> bool:
    try:
        connected(path, 1.0).close()
    except OSError:
        return False
    return True
