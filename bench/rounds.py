"""Timing whole commands side by side: rounds alternate, figures are medians, the verdict is a ratio of medians."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KUBEQ = (sys.executable, "-m", "kubeq")


@dataclass(frozen=True)
class Target:
    """What a ratio has to stay below (or, with `at_least`, above)."""

    must: float
    goal: float
    at_least: bool = False

    def verdict(self, ratio: float) -> str:
        def held(bound: float) -> bool:
            return ratio >= bound if self.at_least else ratio <= bound

        return "goal" if held(self.goal) else "must" if held(self.must) else "MISSED"


class Home:
    """A fresh home for kubeq, removed at the end."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="kubeq-bench-"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBEQ_", "XDG_"))}
        self.env = {**kept, "HOME": str(self.path), "PYTHONPATH": f"{ROOT}:{ROOT / 'consumer'}"}

    def kubeq(self, *arguments: str) -> str:
        """Run the command line; its stdout."""
        done = subprocess.run(
            [*KUBEQ, *arguments],
            cwd=self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"kubeq {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], target: Target, *, rounds: int = 3
) -> float:
    """The ratio of the medians, printed with everything that is needed to believe it."""
    mine, other = [], []
    for _ in range(rounds):
        other.append(timed(theirs))
        mine.append(timed(ours))
    return report(name, mine, other, target)


def report(name: str, ours: list[float], theirs: list[float], target: Target) -> float:
    """Print one line of the table; answers the ratio of medians."""
    ratio = statistics.median(ours) / statistics.median(theirs)
    sign = ">=" if target.at_least else "<="
    print(
        f"{name:<58} {ratio:6.2f}  must {sign} {target.must:<5g} goal {sign} {target.goal:<5g}"
        f" {target.verdict(ratio):<7}"
        f" ours {statistics.median(ours):8.3f} (best {min(ours):.3f})  theirs {statistics.median(theirs):8.3f}"
        f" (best {min(theirs):.3f})  rounds {len(ours)}  load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return ratio
