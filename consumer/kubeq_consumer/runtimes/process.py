"""The process runtime: each attempt is a process group on the node itself, as the agent's user. No isolation.

What only a container can give (an image, memory and shm limits, mounts, another user, another network) is refused where
jobs are submitted, not here. Linux only: it waits on a process descriptor together with the pipe of the output.
"""

from __future__ import annotations

import logging
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubeq.core.model import Exit, NodeName, Usage
from kubeq.core.spec import Network
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution, Sink
from kubeq_consumer.runtimes.cgroup import Reading, later
from kubeq_consumer.runtimes.process_notes import ProcessLeftover, notes_of, write_note
from kubeq_consumer.runtimes.processes import kill_group, kill_writers, reading_of_tree
from kubeq_consumer.runtimes.sampler import Sampler, Watch

log = logging.getLogger(__name__)
READ_SIZE = 65536
INHERITED = ("PATH", "HOME", "LANG", "USER")
"""What a command gets of the agent's environment, beside what its job names."""
LATE_OUTPUT_S = 0.5
"""How long the output may stay open after everything in the process group was killed."""
BLOCK = 512
"""The unit of ru_inblock and ru_oublock (getrusage(2))."""


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

    def leftovers(self, node: NodeName | None) -> Sequence[ProcessLeftover]:
        """Process groups noted by `node`, or by all agents that are dead (None); never this process's own."""
        return notes_of(self._state, node)

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
        """Start it in a session of its own, stdout and stderr on one pipe."""
        execution = self._execution
        reading, writing = os.pipe()
        running = ProcessRunning(execution, reading, output)
        try:
            process = subprocess.Popen(
                execution.command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=execution.work / execution.directory,
                env=environment_of(execution.environment, os.environ),
                start_new_session=True,
                user=self._user[0] if self._user else None,
                group=self._user[1] if self._user else None,
                extra_groups=[] if self._user else None,
            )
        except (OSError, ValueError) as error:
            os.close(reading)
            running.conclude(Exit(never_started=_refusal(execution, error)))
            return running
        finally:
            os.close(writing)
        running.follow(process, write_note(self._state, execution, process.pid), self._sampler)
        return running

    def discard(self) -> None:
        """Nothing was made. Safe twice."""


class ProcessRunning:
    """A process group that was started; one thread reads its output and sees it end."""

    def __init__(self, execution: Execution, pipe: int, output: Sink) -> None:
        self._execution = execution
        self._pipe = pipe
        self._output = output
        self._output_failure: OSError | None = None
        self._begun = time.monotonic()
        self._wall_s: float | None = None
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._note: Path | None = None
        self._exit: Exit | None = None
        self._usage: Usage | None = None
        self._watch = Watch(self._look, lambda: None)
        self._inherited_peak = 0
        self._ended = threading.Event()

    def follow(self, process: subprocess.Popen[bytes], note: Path, sampler: Sampler) -> None:
        """Read its output from now on, and see it through to its end."""
        self._pid, self._note = process.pid, note
        self._inherited_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sampler.add(self._watch)
        name = f"kubeq-output-{self._execution.task}"
        threading.Thread(target=self._follow, args=(process,), name=name, daemon=True).start()

    def conclude(self, exit: Exit) -> None:
        """It has ended so, without having run."""
        self._exit = exit
        self._usage = Usage(wall_s=0.0)
        self._ended.set()

    def wait(self, timeout: float) -> Exit | None:
        """How it ended; raises BackendError if its output could not be written."""
        if not self._ended.wait(timeout):
            return None
        if self._output_failure is not None:
            raise BackendError(
                f"the output of task {self._execution.task} could not be written: {self._output_failure}"
            )
        assert self._exit is not None, "the thread that follows a process ends with an exit"
        return self._exit

    def usage(self) -> Usage:
        """What it has used up to now; at the end what the kernel has counted for it and all it waited for."""
        if self._usage is not None:
            return self._usage
        self._watch.look()
        return self._usage_of(self._watch.reading)

    def stop(self, grace: float) -> None:
        """TERM to the process group, KILL after `grace` seconds. Safe twice."""
        if grace > 0 and self._signal(signal.SIGTERM):
            timer = threading.Timer(grace, self._signal, args=(signal.SIGKILL,))
            timer.daemon = True
            timer.start()
        elif grace <= 0:
            self._signal(signal.SIGKILL)

    def remove(self) -> None:
        """End what still runs of it, and forget it. Safe twice."""
        self._signal(signal.SIGKILL)
        self._forget()

    def _signal(self, number: signal.Signals) -> bool:
        """Whether it still ran. Under the lock the leader is not yet waited for, so its number is nobody else's."""
        with self._lock:
            if self._pid is None or self._ended.is_set():
                return False
            return kill_group(self._pid, number)

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        leader = os.pidfd_open(process.pid)
        try:
            self._copy_until(leader)
            with self._lock:
                kill_group(process.pid, signal.SIGKILL)
                _, status, counted = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                self._pid = None
            self._wall_s = time.monotonic() - self._begun
            self._copy_rest()
            code = process.returncode
            self._exit = Exit(code=code) if code >= 0 else Exit(signal=-code)
            self._usage = self._usage_of(later(self._watch.reading, self._counted(counted)))
        finally:
            self._watch.over = True
            os.close(leader)
            os.close(self._pipe)
            self._forget()
            self._ended.set()

    def _counted(self, counted: resource.struct_rusage) -> Reading:
        """What the kernel has counted. A child begins with its parent's peak (between fork and exec it has the parent's
        memory), so a peak below the agent's own says nothing; then the sampled one stands.
        """
        return Reading(
            cpu_s=counted.ru_utime + counted.ru_stime,
            peak_memory_bytes=counted.ru_maxrss * 1024 if counted.ru_maxrss > self._inherited_peak else None,
            read_bytes=counted.ru_inblock * BLOCK,
            written_bytes=counted.ru_oublock * BLOCK,
        )

    def _look(self) -> Reading | None:
        pid = self._pid
        return None if pid is None else reading_of_tree(pid)

    def _usage_of(self, reading: Reading) -> Usage:
        return Usage(
            wall_s=time.monotonic() - self._begun if self._wall_s is None else self._wall_s,
            cpu_s=reading.cpu_s,
            peak_memory_bytes=reading.peak_memory_bytes,
            read_bytes=reading.read_bytes,
            written_bytes=reading.written_bytes,
        )

    def _copy_until(self, leader: int) -> None:
        """Copy output until the leader ends."""
        poll = select.poll()
        poll.register(leader, select.POLLIN)
        poll.register(self._pipe, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._pipe in ready and not self._copy_once():
                poll.unregister(self._pipe)  # it closed its output and runs on
            if leader in ready:
                return

    def _copy_rest(self) -> None:
        """What is left in the pipe; whoever escaped from the group and holds it open is killed, and not waited for."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        deadline = time.monotonic() + LATE_OUTPUT_S
        killed = False
        while True:
            left = deadline - time.monotonic()
            if left > 0 and poll.poll(left * 1000):
                if not self._copy_once():
                    return
            elif killed:
                log.warning("task %s left a process that cannot be ended", self._execution.task)
                return
            else:
                kill_writers(self._pipe)
                killed, deadline = True, time.monotonic() + LATE_OUTPUT_S

    def _copy_once(self) -> bool:
        """Whether there was anything; False at the end of the output."""
        received = os.read(self._pipe, READ_SIZE)
        if received and self._output_failure is None:
            try:
                self._output.write(received)
            except OSError as error:
                self._output_failure = error
        return bool(received)

    def _forget(self) -> None:
        if self._note is not None:
            self._note.unlink(missing_ok=True)


def environment_of(environment: Sequence[tuple[str, str]], agents: Mapping[str, str]) -> dict[str, str]:
    """The variables of a command: few of the agent's own, then the job's."""
    return {name: agents[name] for name in INHERITED if name in agents} | dict(environment)


def _refusal(execution: Execution, error: OSError | ValueError) -> str:
    word, place = execution.command[0], execution.work / execution.directory
    if not place.is_dir():
        return f"cannot change to directory {execution.directory!r}: it is not in the work directory"
    if isinstance(error, FileNotFoundError):
        return f"cannot run {word!r}: {'no such file' if '/' in word else 'not found in PATH'}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot run {word!r}: {reason.lower()}"
