"""The memory of everything that a command starts, sampled from /proc while it runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rounds import Home

EVERY_S = 0.02
PAGE = 4096


def peak_rss(command: Sequence[str], home: Home) -> int:
    """Run it in that home: the largest sum of resident bytes over all processes at one moment.

    A process is taken for one of the command's by its home folder, which agents of their own session have too.
    """
    mark = f"HOME={home.path}".encode()
    known: dict[str, bool] = {}
    peak = 0
    process = subprocess.Popen(
        command, cwd=home.path, env=home.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True
    )
    while process.poll() is None:
        time.sleep(EVERY_S)
        peak = max(peak, sum(_resident(entry, mark, known) for entry in Path("/proc").glob("[0-9]*")))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak


def _resident(entry: Path, mark: bytes, known: dict[str, bool]) -> int:
    """The resident bytes of a process that belongs to the home; 0 of any other, and of one that is gone."""
    try:
        began = (entry / "stat").read_bytes().rpartition(b")")[2].split()[19]
        name = f"{entry.name}.{began.decode()}"
        if name not in known:
            known[name] = mark in (entry / "environ").read_bytes().split(b"\0")
        return int((entry / "statm").read_bytes().split()[1]) * PAGE if known[name] else 0
    except (OSError, IndexError):
        return 0
