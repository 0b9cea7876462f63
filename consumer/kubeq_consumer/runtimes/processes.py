"""Looking at processes and ending them, through /proc: groups, descendants, and who holds a pipe open."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from kubeq.machine import ProcessMark, living_pids, stat_of
from kubeq_consumer.runtimes.cgroup import Reading

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_ACCESS_MODE, _WRITE_ONLY, _READ_WRITE = 0o3, 0o1, 0o2


def kill_group(group: int, number: signal.Signals) -> bool:
    """Whether a process group of that number was there to get the signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


def group_members(leader: ProcessMark) -> list[int]:
    """The processes (not zombies) in the group of a leader, itself included, that are no older than it."""
    members = []
    for pid in living_pids():
        stat = stat_of(pid)
        if stat and stat[0] not in "ZX" and int(stat[2]) == leader.pid and int(stat[19]) >= leader.started:
            members.append(pid)
    return members


def writers_to(pipe: int) -> list[int]:
    """Every other process that holds the writing end of a pipe, by the pipe's inode."""
    name = f"pipe:[{pipe}]"
    return [pid for pid in living_pids() if pid != os.getpid() and _writes_to(pid, name)]


def kill_writers(pipe: int) -> None:
    """Kill every other process that holds the writing end of a pipe, by the descriptor of its reading end."""
    for pid in writers_to(os.fstat(pipe).st_ino):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def reading_of_tree(pid: int) -> Reading | None:
    """What a process and its descendants have used up to now; None if it is gone.

    The cpu of children that ended is in it once their parent has waited for them.
    """
    ticks, peak, read, written = 0, 0, 0, 0
    for member in _with_descendants(pid):
        stat = stat_of(member)
        if stat is not None:
            ticks += sum(int(field) for field in stat[11:15])  # utime, stime and those of children waited for
        peak = max(peak, _keyed(member, "status", "VmHWM") * 1024)
        read += _keyed(member, "io", "read_bytes")
        written += _keyed(member, "io", "write_bytes")
    if not peak:
        return None  # a process that ended has no memory
    return Reading(cpu_s=ticks / _TICKS, peak_memory_bytes=peak, read_bytes=read, written_bytes=written)


def _with_descendants(pid: int) -> list[int]:
    """The process and its children's children, where the kernel lists them (CONFIG_PROC_CHILDREN)."""
    found, pending = [], [pid]
    while pending:
        parent = pending.pop()
        found.append(parent)
        with contextlib.suppress(OSError):
            pending += map(int, (_PROC / str(parent) / "task" / str(parent) / "children").read_text().split())
    return found


def _writes_to(pid: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) == name:
                    flags = (_PROC / str(pid) / "fdinfo" / descriptor.name).read_text().split("flags:")[1].split()[0]
                    if int(flags, 8) & _ACCESS_MODE in (_WRITE_ONLY, _READ_WRITE):
                        return True
    return False


def _keyed(pid: int, file: str, key: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROC / str(pid) / file).read_text().splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0])
    return 0
