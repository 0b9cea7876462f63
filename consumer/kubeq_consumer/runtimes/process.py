"""The process runtime: each attempt is a process group on the node itself, as the agent's user. No isolation.

What only a container can give (an image, memory and shm limits, mounts, another user, another network) is refused where
jobs are submitted, not here. How a group is followed to its end is in `process_run`. Linux only.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from kubeq.core.model import Exit
from kubeq.core.spec import Network
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution, Sink
from kubeq_consumer.runtimes.process_notes import ProcessLeftover, note_on, notes_of_the_dead
from kubeq_consumer.runtimes.process_run import ProcessRunning, end_group
from kubeq_consumer.runtimes.sampler import Sampler

INHERITED = ("PATH", "HOME", "LANG", "USER")
"""What a command gets of the agent's environment, beside what its job names."""
_MACHINE_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""What a start fails with through no fault of the command."""


class ProcessRuntime:
    """Runs attempts as processes of user `uid` and group `gid`; `state` keeps a note on each while it runs."""

    name = "process"

    def __init__(self, *, uid: int, gid: int, state: Path) -> None:
        self._uid = uid
        self._gid = gid
        self._state = state
        self._sampler = Sampler()

    def resolve(self, image: str) -> str:
        """Always BackendError: there is no image in a plain process."""
        raise BackendError(
            f"the process runtime runs no images, so {image!r} cannot be used", hint="leave out --runtime process"
        )

    def prepare(self, image: str) -> None:
        """Always BackendError, as `resolve`."""
        self.resolve(image)

    def create(self, execution: Execution) -> ProcessCreated:
        """What is needed to start it; nothing is made yet."""
        assert execution.image is None and not execution.entrypoint, "images are refused at submission"
        assert execution.user is None and execution.shm_size is None and not execution.mounts, "refused at submission"
        assert execution.resources.memory is None, "a memory limit is refused at submission"
        assert execution.network in (Network.SLOT, Network.HOST), "other networks are refused at submission"
        user = (self._uid, self._gid) if os.geteuid() == 0 and self._uid != 0 else None
        return ProcessCreated(execution, self._state, user, self._sampler)

    def leftovers(self) -> Sequence[ProcessLeftover]:
        """Process groups noted by agents that are dead now: one listing of a folder."""
        return notes_of_the_dead(self._state)

    def close(self) -> None:
        """Nothing is kept. Safe twice."""


class ProcessCreated:
    """A command that could start at once."""

    def __init__(self, execution: Execution, state: Path, user: tuple[int, int] | None, sampler: Sampler) -> None:
        self._execution = execution
        self._sampler = sampler
        self._state = state
        self._user = user

    def start(self, output: Sink) -> ProcessRunning:
        """Start it in a session of its own, stdout and stderr on one pipe. Raises BackendError; then nothing runs.

        A note on it is on disk before it runs, so whenever this agent dies the next one finds the group.
        """
        with ExitStack() as undo:
            reading, writing = self._pipe()
            undo.callback(os.close, reading)
            with open(writing, "wb", buffering=0) as end:
                note = note_on(self._state, self._execution, reading)
                note.write(None)
                undo.callback(note.forget)
                try:
                    process = self._launch(end)
                except (OSError, ValueError) as error:
                    running = ProcessRunning(self._execution, note, -1, output)
                    running.conclude(Exit(never_started=_refusal(self._execution, error)))
                    return running
            undo.callback(end_group, process)
            note.write(process.pid)
            running = ProcessRunning(self._execution, note, reading, output)
            running.follow(process, self._sampler)
            undo.pop_all()
            return running

    def park(self, output: Sink) -> bool:
        """A process starts in a millisecond."""
        return False

    def discard(self) -> None:
        """Nothing was made. Safe twice."""

    def _pipe(self) -> tuple[int, int]:
        try:
            return os.pipe()
        except OSError as error:
            raise _trouble(self._execution, error) from error

    def _launch(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        execution = self._execution
        try:
            return subprocess.Popen(
                execution.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=execution.work / execution.directory,
                env=environment_of((*execution.environment, *_told(execution)), os.environ),
                start_new_session=True,
                user=self._user[0] if self._user else None,
                group=self._user[1] if self._user else None,
                extra_groups=[] if self._user else None,
            )
        except OSError as error:
            if error.errno in _MACHINE_TROUBLE:
                raise _trouble(execution, error) from error
            raise


def environment_of(environment: Sequence[tuple[str, str]], agents: Mapping[str, str]) -> dict[str, str]:
    """The variables of a command: few of the agent's own, then the job's."""
    return {name: agents[name] for name in INHERITED if name in agents} | dict(environment)


def _told(execution: Execution) -> tuple[tuple[str, str], ...]:
    """What only the runtime knows of the command's surroundings."""
    places = {"KUBEQ_PEERS": execution.peers, "KUBEQ_CHECKPOINT": execution.checkpoint}
    return tuple((name, str(place)) for name, place in places.items() if place is not None)


def _refusal(execution: Execution, error: OSError | ValueError) -> str:
    word, place = execution.command[0], execution.work / execution.directory
    if not place.is_dir():
        return f"cannot change to directory {execution.directory!r}: it is not in the work directory"
    if isinstance(error, FileNotFoundError):
        return f"cannot run {word!r}: {'no such file' if '/' in word else 'not found in PATH'}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot run {word!r}: {reason.lower()}"


def _trouble(execution: Execution, error: OSError) -> BackendError:
    return BackendError(f"this machine could not start task {execution.task}: {error.strerror}", transient=True)
