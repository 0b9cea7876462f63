"""Which process is meant, for ever: a pid alone may belong to another process tomorrow.

A mark is written into what an agent leaves on a machine (labels, pid files), so that the next one can tell whether that
agent is dead. Linux only: everything comes from /proc.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """One process: its pid, when it began (clock ticks since boot), under which boot and in which pid namespace."""

    pid: int
    started: int
    boot: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.pid}.{self.started}.{self.boot}.{self.namespace}"

    @staticmethod
    def parse(text: str) -> ProcessMark | None:
        """The mark written by `str`; None for anything else."""
        parts = text.split(".")
        if len(parts) != 4 or not (parts[0].isdigit() and parts[1].isdigit()):
            return None
        return ProcessMark(pid=int(parts[0]), started=int(parts[1]), boot=parts[2], namespace=parts[3])


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of a process that lives now (a zombie does not)."""
    stat = stat_of(pid)
    if stat is None or stat[0] in "ZX":
        return None
    return ProcessMark(pid=pid, started=int(stat[19]), boot=_boot(), namespace=_namespace())


def own_mark() -> ProcessMark:
    """The mark of this process."""
    mark = mark_of(os.getpid())
    assert mark is not None, "this process is alive"
    return mark


def has_ended(mark: ProcessMark) -> bool:
    """Whether that process has certainly ended.

    Of a process in another pid namespace (an agent in a container) nothing can be known before the next boot, so the
    answer is no.
    """
    if mark.boot != _boot():
        return True
    return mark.namespace == _namespace() and mark_of(mark.pid) != mark


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name (0 state, 1 parent, 2 group, 3 session, 19 start); None if gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def living_pids() -> list[int]:
    """Every pid that can be seen from here; stale as soon as it is read."""
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return "".join(letter for letter in str((_PROC / "self/ns/pid").readlink()) if letter.isdigit())
