"""The progress of a job on stderr: one live line on a terminal, plain lines at a falling rate elsewhere."""

from __future__ import annotations

import shutil
import time
from collections import deque

from kubeq.actions.waiting import Tick
from kubeq.cli.output import Mode, Output
from kubeq.core.model import JobStatus, TaskState
from kubeq.core.quantities import format_duration

REDRAW_S = 0.1
WINDOW_S = 30.0
"""The rate is that of the last half minute."""
FIRST_GAP_S = 1.0
LONGEST_GAP_S = 60.0
_BAR = 20
_CLEAR = "\r\x1b[2K"


class Progress:
    """Shows the ticks of one job. Call `hide` before anything else is printed, and at the end."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._silent = output.mode not in (Mode.TEXT, Mode.CSV)
        self._samples: deque[tuple[float, int]] = deque()
        self._drawn = False
        self._shown_at = float("-inf")
        self._gap_s = FIRST_GAP_S
        self._line = ""

    def show(self, tick: Tick) -> None:
        """Bring what is shown up to date, not more often than a person can read."""
        if self._silent:
            return
        self._samples.append((tick.elapsed_s, tick.finished))
        while len(self._samples) > 2 and self._samples[0][0] < tick.elapsed_s - WINDOW_S:
            self._samples.popleft()
        now = time.monotonic()
        if self._output.live:
            if now - self._shown_at >= REDRAW_S:
                self._shown_at = now
                self._draw(describe(tick, self._rate(), bar=True))
        elif now - self._shown_at >= self._gap_s or self._shown_at == float("-inf"):
            self._plain(describe(tick, self._rate()), now)

    def hide(self) -> None:
        """Take the live line away."""
        if self._drawn:
            self._output.draw(_CLEAR)
            self._drawn = False

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._output.draw(_CLEAR + self._output.safe(line, True)[:width])
        self._drawn = True

    def _plain(self, line: str, now: float) -> None:
        if line == self._line:
            return
        if self._line:
            self._gap_s = min(2 * self._gap_s, LONGEST_GAP_S)
        self._line, self._shown_at = line, now
        self._output.note(line)

    def _rate(self) -> float:
        """Tasks that ended, a second."""
        (begun, before), (now, after) = self._samples[0], self._samples[-1]
        return (after - before) / (now - begun) if now > begun else 0.0


def describe(tick: Tick, rate: float, *, bar: bool = False) -> str:
    """One line about a job: counts, rate, time left, nodes."""
    tasks, total = tick.tasks, tick.job.total
    parts = [f"{tick.finished:,}/{total:,}"]
    if bar:
        full = _BAR * tick.finished // total if total else _BAR
        parts.insert(0, f"[{'#' * full}{'.' * (_BAR - full)}]")
    for state, word in (
        (TaskState.CLAIMED, "running"),
        (TaskState.FAILED, "failed"),
        (TaskState.CANCELLED, "cancelled"),
    ):
        if tasks[state]:
            parts.append(f"{tasks[state]:,} {word}")
    left = total - tick.finished
    if rate > 0 and left:
        parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min")
        parts.append(f"ETA {format_duration(left / rate)}")
    if left:
        parts.append(_nodes(tick))
    return f"{tick.job.name}: {'  '.join(parts)}"


def _nodes(tick: Tick) -> str:
    if tick.status in (JobStatus.PAUSED, JobStatus.INCOMPLETE):
        return str(tick.status)
    count = len(tick.nodes.live) + len(tick.nodes.draining)
    return "no node" if not count else "1 node" if count == 1 else f"{count} nodes"
