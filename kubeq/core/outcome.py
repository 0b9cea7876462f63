"""One table from what the runtime saw to what is recorded. Never from the exit code alone.

The rows follow what the Docker engine was observed to say: an out-of-memory kill of a child leaves exit code 0, a
program that traps TERM leaves exit code 0, an engine that is killed leaves 137 and no error.
"""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass
from enum import StrEnum

from kubeq.core.model import Ending, Exit, Reason
from kubeq.core.quantities import format_duration, format_size


class Stop(StrEnum):
    """Why we ended a command ourselves. Think before adding one: each needs a row in `judge`."""

    CANCELLED = "cancelled"
    RELEASED = "released"
    SUPERSEDED = "superseded"
    TIME_LIMIT = "time_limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an attempt ended, why, and one sentence for the user (None for success)."""

    ending: Ending
    reason: Reason | None = None
    message: str | None = None


def judge(
    exit: Exit,
    stop: Stop | None = None,
    *,
    timeout_s: float | None = None,
    memory: int | None = None,
    peak: int | None = None,
) -> Verdict:
    """The verdict on an attempt whose command has ended, given why we stopped it, if we did."""
    match stop:
        case Stop.CANCELLED:
            return Verdict(ending=Ending.CANCELLED, reason=Reason.CANCELLED, message="stopped because it was cancelled")
        case Stop.RELEASED | Stop.SUPERSEDED:
            return Verdict(ending=Ending.RELEASED, message="stopped by the agent and given back")
        case Stop.TIME_LIMIT:
            limit = format_duration(timeout_s) if timeout_s else "its limit"
            return _failed(Reason.TIME_LIMIT, f"stopped after {limit}, its time limit")
        case None:
            pass
    if exit.out_of_memory:
        limit = f" (limit {format_size(memory)}" if memory else " (limit of the machine"
        used = f", peak {format_size(peak)})" if peak else ")"
        return _failed(Reason.OUT_OF_MEMORY, f"a process of it was killed for want of memory{limit}{used}")
    if exit.vanished:
        return Verdict(ending=Ending.RELEASED, message="the runtime lost sight of the command; it will run again")
    if exit.never_started is not None:
        return _failed(Reason.IMAGE, exit.never_started)
    if exit.signal is not None:
        return _failed(Reason.SIGNAL, f"ended by signal {signal_name(exit.signal)}")
    if exit.code != 0:
        return _failed(Reason.EXIT, f"exit code {exit.code}")
    return Verdict(ending=Ending.SUCCEEDED)


def signal_name(number: int) -> str:
    """`9 (SIGKILL)`; the bare number where the platform knows no name."""
    try:
        return f"{number} ({signals.Signals(number).name})"
    except ValueError:
        return str(number)


def _failed(reason: Reason, message: str) -> Verdict:
    return Verdict(ending=Ending.FAILED, reason=reason, message=message)
