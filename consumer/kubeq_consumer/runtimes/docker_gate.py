"""The gate of one container: a named pipe where kubeq-exec waits, so that a container can be started ahead of its turn.

Starting a container takes longer than many a command. Behind its gate a container has its network and everything else,
and holds no more than a program of a few kilobytes. The agent keeps the other end of the pipe: if it dies, nobody can
open the gate any more, and the command never runs.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from pathlib import Path
from typing import Any

from kubeq.errors import BackendError

_SAME_KERNEL = ("runc", "crun", "nvidia")
"""Engine runtimes whose containers run on the engine's own kernel, so that both ends of a pipe can meet."""


class Gate:
    """A closed gate at a path that did not exist. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._end: int | None = None

    def make(self) -> Gate:
        """Put it there. Raises BackendError."""
        try:
            os.mkfifo(self.path)
            self.path.chmod(0o644)  # whoever the command runs as opens it
            self._end = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise BackendError(f"{self.path}: {error.strerror or error}", transient=True) from error
        return self

    def open(self) -> None:
        """Let the command go, or go as soon as it comes to the gate; nothing once this is closed."""
        with self._lock:
            if self._end is not None:
                os.write(self._end, b"\n")

    def close(self) -> None:
        """Take it away; what still waits at it ends without having run. Safe twice."""
        with self._lock:
            end, self._end = self._end, None
        if end is not None:
            os.close(end)
        with contextlib.suppress(OSError):  # it lies beside the work directory and goes with it
            self.path.unlink(missing_ok=True)


def can_have_gates(state: dict[str, Any]) -> bool:
    """Whether a pipe of ours reaches the containers of an engine in this state ("Get system information").

    Not if the engine lives in a virtual machine, or puts each container into one.
    """
    return state.get("KernelVersion") == platform.release() and state.get("DefaultRuntime") in _SAME_KERNEL
