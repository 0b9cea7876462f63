"""What the engine says of a container that ended, as an Exit. Pure.

A command that signal N ended shows as 128+N, because the container's init passes it on so; a program may also return
such a number itself. Rule: 129 to 192 whose remainder is a signal of this system is that signal, and has no code.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubeq.core.images import is_image_id
from kubeq.core.model import Exit
from kubeq_consumer.runtimes.base import Execution

_NEVER = "0001-01-01"
_MACHINE_TROUBLE = (
    "no space left on device", "cannot allocate memory", "resource temporarily unavailable", "too many open files",
    "failed to create endpoint", "failed to set up container networking", "could not find bridge", "bridge network",
    "context deadline exceeded", "containerd", "connection refused", "transport is closing", "device or resource busy",
)  # fmt: skip
"""Parts of the engine's words on a start that failed through no fault of the image or the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What else is known: kills counted by the cgroup, our program's refusal, and whether the engine went away."""

    oom_kills: int
    refusal: str | None
    engine_went: bool
    engine_keeps_containers: bool


def exit_of(state: dict[str, Any], around: Circumstances) -> Exit:
    """How the command of a container in this `State` (of "Inspect a container") ended."""
    code = int(state.get("ExitCode", 0))
    out_of_memory = bool(state.get("OOMKilled")) or around.oom_kills > 0
    if state.get("Status") in ("removing", "dead"):
        return Exit(vanished=True)  # somebody else removes it, which begins with a kill
    if not has_started(state):
        if around.engine_went:
            return Exit(vanished=True)
        return Exit(never_started=cleaned(str(state.get("Error") or f"the engine gave up with code {code}")))
    if around.engine_went and not out_of_memory and (not around.engine_keeps_containers or code == 137):
        return Exit(vanished=True)
    if around.refusal is not None and code in (126, 127):
        return Exit(never_started=around.refusal)
    if 128 < code <= 192 and code - 128 in signal.valid_signals():
        return Exit(signal=code - 128, out_of_memory=out_of_memory)
    return Exit(code=code, out_of_memory=out_of_memory)


def has_started(state: dict[str, Any]) -> bool:
    """Whether the command ever ran."""
    return not str(state.get("StartedAt") or _NEVER).startswith(_NEVER)


def seconds_run(state: dict[str, Any], since: float = 0.0) -> float | None:
    """From start, or `since` if that is later, to end by the engine's clock; None if it has not run or still does."""
    begin, end = _time(state.get("StartedAt")), _time(state.get("FinishedAt"))
    return None if begin is None or end is None or end < begin else max(0.0, end - max(begin, since))


def is_machine_trouble(words: str) -> bool:
    """Whether a start failed for want of something on the machine, so that it may succeed another time."""
    said = words.lower()
    return any(sign in said for sign in _MACHINE_TROUBLE)


def cleaned(words: str) -> str:
    """The engine's words on a start that failed, without the chain of programs that passed them on."""
    text = " ".join(words.split())
    missing = re.search(r'exec: \\?"(?P<command>.*?)\\?": (?P<why>executable file not found in \$PATH|[^:"]+)', text)
    if missing:
        return f"cannot run {missing['command']!r}: {missing['why'].strip().removesuffix(': unknown')}"
    for prefix in (
        "OCI runtime create failed: ",
        "failed to create shim task: ",
        "container_linux.go:",
        "runc create failed: ",
    ):
        text = text.partition(prefix)[2] or text
    return text.removesuffix(": unknown")


def image_of(execution: Execution) -> str:
    """The image for people: an id needs no more than its first twelve digits."""
    name = str(execution.image)
    return f"image {name[:19] if is_image_id(name) else name}"


def _time(text: object) -> float | None:
    """Epoch seconds; the engine writes up to nine digits after the point and a Z."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", str(text))
    if match is None or match[1].startswith(_NEVER):
        return None
    zone = "+00:00" if match[3] == "Z" else match[3]
    return datetime.fromisoformat(match[1] + zone).timestamp() + float(match[2] or 0)
