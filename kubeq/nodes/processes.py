"""Signalling a process of this machine that cannot be mistaken for another. Which process is meant is in `machine`."""

from __future__ import annotations

import os
import signal

from kubeq.machine import ProcessMark, mark_of


def send_signal(mark: ProcessMark, number: signal.Signals) -> bool:
    """Signal that very process and no other, even if its pid is given away meanwhile; False if it has ended.

    A process of another pid namespace cannot be reached from here and counts as one that has ended.
    """
    try:
        handle = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        return False
    try:
        if mark_of(mark.pid) != mark:
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
