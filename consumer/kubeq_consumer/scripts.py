"""Commands of the pool that run on the node itself, not for a task: around the attempts, and programs of packages.

They run as the agent's user, in its home directory unless another is named, in a session of their own. What they print
goes into the node's log, a line each with the command's name before it.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kubeq.core.printed import Lines
from kubeq.core.quantities import format_duration
from kubeq.errors import BackendError
from kubeq.machine import ProcessMark, mark_of
from kubeq_consumer.runtimes.process import environment_of
from kubeq_consumer.runtimes.processes import kill_group

log = logging.getLogger(__name__)
LOOK_S = 0.1
"""How often it is looked whether a command that runs is to be stopped."""
LATE_OUTPUT_S = 0.5
"""How long output is waited for that something which the command left running may still print."""
READ_SIZE = 65536
LONGEST_WORDS = 200
"""Characters of a command's last line that are quoted as the reason of its failure."""


class Script:
    """A command under a name. `note` is a file that says which process it is, so that a later life of the agent can end
    it; `run` is called once. It runs in `folder`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        note: Path,
        folder: Path | None = None,
    ) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._note = note
        self._folder = folder
        self._last = ""

    def run(self, limit_s: float, grace_s: float, stopped: Callable[[], bool]) -> str | None:
        """Run it to its end, which it has in `limit_s` seconds or as soon as `stopped`; None, or why it failed.

        What it leaves running goes on, unless it was stopped. Raises BackendError if it cannot be started.
        """
        end_predecessor(self._note)
        process = self._start()
        reader = threading.Thread(target=self._read, args=(process,), name=f"output of {self._name}", daemon=True)
        reader.start()
        deadline = time.monotonic() + limit_s
        why = None
        while why is None and process.poll() is None:
            why = "the node was told to leave" if stopped() else None
            if time.monotonic() >= deadline:
                why = f"it was stopped after {format_duration(limit_s)}"
            _wait(process, LOOK_S)
        if why is not None:
            _end_group(process, grace_s)
        reader.join(LATE_OUTPUT_S)
        self._note.unlink(missing_ok=True)
        return why or self._verdict(process.returncode)

    def _start(self) -> subprocess.Popen[bytes]:
        folder = self._folder or Path(os.environ.get("HOME", "/"))
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder if folder.is_dir() else "/",
                env=environment_of(tuple(self._environment.items()), os.environ),
                start_new_session=True,
            )
            self._note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._note.write_text(str(mark_of(process.pid) or ""), encoding="ascii")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BackendError(f"its {self._name} command cannot be started: {why}") from error
        return process

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        lines = Lines()
        with process.stdout as pipe:
            while chunk := os.read(pipe.fileno(), READ_SIZE):
                self._log(lines.feed(chunk))
        self._log(lines.close())

    def _log(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._last = line.strip() or self._last
            log.info("%s: %s", self._name, line)

    def _verdict(self, code: int) -> str | None:
        if code == 0:
            return None
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        return f"{how}: {self._last[:LONGEST_WORDS]}" if self._last else how


def end_predecessor(note: Path) -> None:
    """End the command that an earlier life of this agent was in the middle of when it died, and all that it started."""
    try:
        mark = ProcessMark.parse(note.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    if mark is not None and mark_of(mark.pid) == mark:
        kill_group(mark.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """TERM to all that it started, KILL to what is left after `grace_s` seconds."""
    kill_group(process.pid, signal.SIGTERM)
    _wait(process, grace_s)
    kill_group(process.pid, signal.SIGKILL)
    process.wait()
