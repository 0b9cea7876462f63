"""The question before money is spent, on a terminal and without one."""

from __future__ import annotations

import os
import pty
import re
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


LATER = """
import sys
from functools import partial
from pathlib import Path

from kubeq.actions.launching import pool_of_request
from kubeq.actions.resume import resume
from kubeq.cli.global_options import Globals
from kubeq.cli.output import Mode, Output
from kubeq.cli.spending import agree_to_nodes
from kubeq.cli.starting import agree_to_retry, start_nodes
from kubeq.core.model import Exit
from kubeq.errors import Interrupted
from tests.jobs import FakeClock, Work, session_in
from tests.providers import FakeCloud
from tests.unit.actions.test_machines import configured

clock, cloud, settings = FakeClock(), FakeCloud(), Globals()
session = configured(session_in(Path(sys.argv[1]), clock), cloud, nodes=2)
pool = pool_of_request(session, private=False)
session.queue.make_pool(pool)
work = Work(session, clock)
job = work.submit([("1",), ("2",), ("3",)], ["x"], pool=pool.id)
work.end(work.claim(pool=pool.id)[0], Exit(code=1))
job = session.queue.pause(job)
settings.session = session
try:
    {act}
except Interrupted as refused:
    print(refused.message)
print(len(cloud.requests), session.queue.refresh(job).paused)
"""
RESUME = "resume(session, job, agree=partial(agree_to_nodes, settings))"
RETRY = "agree_to_retry(settings, job)"
RESET = "start_nodes(settings, [job])"
NOT_CHANGED = "no machine was started, and nothing was changed"


def asked(typed: bytes | None, *, count: int = 20, yes: bool = False) -> tuple[int, str]:
    """The exit code and the screen of a process with a terminal of its own, on which that is typed once it asks."""
    return on_a_terminal(typed, PROGRAM.format(count=count, yes=yes))


def on_a_terminal(typed: bytes | None, program: str, *more: str) -> tuple[int, str]:
    """As `asked`, of any program."""
    words = [sys.executable, "-c", program, *more]
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


@pytest.mark.parametrize(
    ("act", "typed", "told"),
    [
        (RESUME, b"n\n", [NOT_CHANGED, "0 True"]),
        (RESUME, b"y\n", ["2 False"]),
        (RETRY, b"n\n", [NOT_CHANGED, "0 True"]),
        (RESET, b"n\n", ["no machine was started; kubeq addnodes 1 20260102-030405-0001 starts one", "0 True"]),
        (RESET, b"y\n", ["started node {pool}-1, {pool}-2", "2 True"]),
    ],
)
def test_whoever_goes_on_with_a_job_is_asked_before_machines_are_started(
    tmp_path: Path, act: str, typed: bytes, told: list[str]
) -> None:
    code, shown = on_a_terminal(typed, LATER.format(act=act), str(tmp_path))
    question, _, after = shown.partition("go on? [y/N] ")
    assert code == 0 and question.startswith("this starts 2 machines:\n"), shown
    assert re.sub(r"\b[0-9a-f]{12}-", "{pool}-", after).splitlines()[1:] == told
