"""Processes of this machine that cannot be mistaken for others: pid, start time and boot together. Linux only.

A pid alone is given to another process sooner or later, after a boot at once; nothing is signalled by pid alone.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """One process: its pid, when it started (clock ticks since boot), and the boot."""

    pid: int
    started: int
    boot: str


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of a process that lives now; None if there is none or it is a zombie."""
    try:
        # proc(5): after the name in brackets come the state (field 3) and, as field 22, the start time.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else ProcessMark(pid=pid, started=int(fields[19]), boot=boot)


def is_alive(mark: ProcessMark) -> bool:
    """Whether that very process still runs."""
    return mark_of(mark.pid) == mark


def send_signal(mark: ProcessMark, number: signal.Signals) -> bool:
    """Signal that very process and no other, even if its pid is given away meanwhile; False if it has ended."""
    try:
        handle = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(mark):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
