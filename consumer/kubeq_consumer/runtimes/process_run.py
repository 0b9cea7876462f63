"""One process group that was started: following its output to the end, what became of it, stopping and removing it.

A thread a group waits on a process descriptor together with the pipe of the output.
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

from kubeq.core.model import Exit, Usage
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution, Sink
from kubeq_consumer.runtimes.cgroup import Reading, later
from kubeq_consumer.runtimes.process_notes import Note
from kubeq_consumer.runtimes.processes import kill_group, kill_writers, reading_of_tree
from kubeq_consumer.runtimes.sampler import Sampler, Watch

log = logging.getLogger(__name__)
READ_SIZE = 65536
LATE_OUTPUT_S = 0.5
"""How long the output may stay open after everything in the process group was killed."""
LOOK_MS = 50
"""How often the leader is looked at where no process descriptor can be had."""
BLOCK = 512
"""The unit of ru_inblock and ru_oublock (getrusage(2))."""


class ProcessRunning:
    """A process group that was started; one thread reads its output and sees it end, and closes `pipe` then."""

    def __init__(self, execution: Execution, note: Note, pipe: int, output: Sink) -> None:
        self._execution = execution
        self._pipe = pipe
        self._output = output
        self._output_failure: OSError | None = None
        self._begun = time.monotonic()
        self._wall_s: float | None = None
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._note = note
        self._exit: Exit | None = None
        self._usage: Usage | None = None
        self._watch = Watch(self._look, lambda: None)
        self._inherited_peak = 0
        self._stopping = threading.Lock()
        self._kill_at = float("inf")
        self._killer: threading.Timer | None = None
        self._ended = threading.Event()

    def follow(self, process: subprocess.Popen[bytes], sampler: Sampler) -> None:
        """Read its output from now on, and see it through to its end. Raises BackendError if that cannot begin."""
        self._pid = process.pid
        self._inherited_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        name = f"kubeq-output-{self._execution.task}"
        try:
            sampler.add(self._watch)
            threading.Thread(target=self._follow, args=(process,), name=name, daemon=True).start()
        except (OSError, RuntimeError) as error:
            self._watch.over = True
            message = f"this machine could not follow task {self._execution.task}: {error}"
            raise BackendError(message, transient=True) from error

    def conclude(self, exit: Exit) -> None:
        """It has ended so, without having run."""
        self._exit = exit
        self._usage = Usage(wall_s=0.0)
        self._ended.set()

    def quiet(self, timeout: float) -> bool:
        """Whether its group has ended and all its output is here: the one follows the other at once."""
        return self._ended.wait(timeout)

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
        """TERM to the process group, KILL after `grace` seconds. A later call can only bring the KILL forward."""
        kill_at = time.monotonic() + grace
        with self._stopping:
            if kill_at >= self._kill_at or self._ended.is_set():
                return
            first, self._kill_at = self._kill_at == float("inf"), kill_at
            if self._killer is not None:
                self._killer.cancel()
            if grace <= 0:
                self._signal(signal.SIGKILL)
                return
            if first:
                self._signal(signal.SIGTERM)
            self._killer = threading.Timer(grace, self._signal, args=(signal.SIGKILL,))
            self._killer.daemon = True
            self._killer.start()

    def remove(self) -> None:
        """End what still runs of it, and forget it. Safe twice."""
        self._signal(signal.SIGKILL)
        self._note.forget()

    def _signal(self, number: signal.Signals) -> bool:
        """Whether it still ran. Under the lock the leader is not yet waited for, so its number is nobody else's."""
        with self._lock:
            if self._pid is None or self._ended.is_set():
                return False
            return kill_group(self._pid, number)

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        try:
            try:
                self._copy_until_end_of(process.pid)
            finally:
                with self._lock:
                    counted = end_group(process)
                    self._pid = None
            self._wall_s = time.monotonic() - self._begun
            self._copy_rest()
            code = process.returncode
            self._exit = Exit(code=code) if code >= 0 else Exit(signal=-code)
            self._usage = self._usage_of(later(self._watch.reading, self._counted(counted)))
        finally:
            self._watch.over = True
            os.close(self._pipe)
            self._note.forget()
            with self._stopping:
                self._ended.set()
                if self._killer is not None:
                    self._killer.cancel()

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
        try:
            return None if pid is None else reading_of_tree(pid)
        except BackendError:
            return None

    def _usage_of(self, reading: Reading) -> Usage:
        return Usage(
            wall_s=time.monotonic() - self._begun if self._wall_s is None else self._wall_s,
            cpu_s=reading.cpu_s,
            peak_memory_bytes=reading.peak_memory_bytes,
            read_bytes=reading.read_bytes,
            written_bytes=reading.written_bytes,
        )

    def _copy_until_end_of(self, leader: int) -> None:
        """Copy output until the leader has ended (it is not yet waited for then)."""
        descriptor = _descriptor_of(leader)
        try:
            self._copy_until(descriptor, leader)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _copy_until(self, descriptor: int | None, leader: int) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {found for found, _ in poll.poll(LOOK_MS if descriptor is None else None)}
            if self._pipe in ready and not self._copy_once():
                poll.unregister(self._pipe)  # it closed its output and runs on
            if descriptor in ready or (descriptor is None and _has_ended(leader)):
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
                self._kill_writers()
                killed, deadline = True, time.monotonic() + LATE_OUTPUT_S

    def _kill_writers(self) -> None:
        try:
            kill_writers(self._pipe)
        except BackendError as error:
            log.warning("who holds the output of task %s open is not known: %s", self._execution.task, error)

    def _copy_once(self) -> bool:
        """Whether there was anything; False at the end of the output."""
        received = os.read(self._pipe, READ_SIZE)
        if received and self._output_failure is None:
            try:
                self._output.write(received)
            except OSError as error:
                self._output_failure = error
        return bool(received)


def end_group(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Kill the group that a child leads and take its exit status; answers what the kernel has counted for it."""
    kill_group(process.pid, signal.SIGKILL)
    _, status, counted = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return counted


def _descriptor_of(leader: int) -> int | None:
    """A process descriptor; None if the agent has no descriptor left for it."""
    try:
        return os.pidfd_open(leader)
    except OSError as error:
        log.warning("process %s is looked at from time to time, as no descriptor can be had: %s", leader, error)
        return None


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
