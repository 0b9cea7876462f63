"""What this machine is: its cores and its memory."""

from __future__ import annotations

import os

from kubeq.core.resources import Resources


def whole_machine() -> Resources:
    """The cores this process may use and the physical memory in bytes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Resources(cpu=float(len(os.sched_getaffinity(0))), memory=memory)
