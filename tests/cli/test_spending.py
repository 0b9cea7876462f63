"""The question before money is spent, on a terminal and without one."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from kubeq.actions.spending import Quote
from kubeq.cli.output import Mode, Output
from kubeq.cli.spending import agreed
from kubeq.core.machines import MachineType, Offer
from kubeq.core.resources import Resources

kind = MachineType(name="m5.large", resources=Resources(cpu=2.0, memory=8 * 2**30))
offer = Offer(type=kind, zone="eu-west-1a", spot=True, price=0.035)
quote = Quote(offer=offer, count={count}, warm=0, lifetime_s=86400.0, work_s=7200.0)
raise SystemExit(0 if agreed(Output(Mode.TEXT), quote, yes={yes}) else 3)
"""


def asked(typed: bytes | None, *, count: int = 20, yes: bool = False) -> tuple[int, str]:
    """The exit code and the screen of a process with a terminal of its own, on which that is typed once it asks."""
    words = [sys.executable, "-c", PROGRAM.format(count=count, yes=yes)]
    pid, screen = pty.fork()
    if pid == 0:
        os.execve(sys.executable, words, {**os.environ, "PYTHONPATH": str(ROOT)})
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([screen], [], [], 30)
        try:
            chunk = os.read(screen, 65536) if ready else b""
        except OSError:  # EIO: the process has ended
            break
        shown += chunk
        if typed is not None and b"[y/N]" in shown:
            os.write(screen, typed)
            typed = None
    status = os.waitpid(pid, 0)[1]
    os.close(screen)
    return os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n")


def test_a_terminal_shows_what_would_be_started_and_what_it_costs() -> None:
    code, shown = asked(b"y\n")
    assert code == 0
    table = [" ".join(line.split()) for line in shown.splitlines()]
    assert table[:4] == [
        "this starts 20 machines:",
        "type zone class count $/hour each $/hour at most",
        "m5.large eu-west-1a spot 20 0.035 0.7 $16.80 in 1d0h",
        "with every task at its time limit: $1.40 in 2h00m",
    ]


@pytest.mark.parametrize("typed", [b"n\n", b"\n"])
def test_whatever_is_no_yes_is_a_no(typed: bytes) -> None:
    assert asked(typed)[0] == 3


@pytest.mark.parametrize(("count", "yes"), [(20, True), (0, False)])
def test_nothing_is_asked_where_that_was_agreed_or_nothing_is_started(count: int, yes: bool) -> None:
    assert asked(None, count=count, yes=yes) == (0, "")


def test_without_a_terminal_nothing_is_asked() -> None:
    words = [sys.executable, "-c", PROGRAM.format(count=20, yes=False)]
    done = subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
