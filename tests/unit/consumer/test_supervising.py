"""An agent that dies is started again; one that has had the last word is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kubeq_consumer.supervising import HEALTHY_S, LAST_WORDS, RESTARTS, Supervisor

COUNT = "import pathlib, sys; file = pathlib.Path(sys.argv[1]); file.write_text(file.read_text() + 'x');"


class Time:
    """A clock that moves by the pauses, and with every start that the file counts by the `life` of an agent."""

    def __init__(self, starts: Path, life: float = 0.0) -> None:
        self.slept = 0.0
        self._starts = starts
        self._life = life

    def monotonic(self) -> float:
        return self.slept + self._life * len(self._starts.read_text())

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    file = tmp_path / "starts"
    file.write_text("")
    return file


def supervised(program: str, starts: Path, clock: Time) -> int:
    command = [sys.executable, "-c", COUNT + program, str(starts)]
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        return Supervisor(command, sleep=clock.sleep, monotonic=clock.monotonic).run()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("code", sorted(LAST_WORDS))
def test_the_last_word_is_the_agents(code: int, starts: Path) -> None:
    clock = Time(starts)
    assert supervised(f"sys.exit({code})", starts, clock) == code
    assert (starts.read_text(), clock.slept) == ("x", 0.0)


def test_an_agent_that_fails_is_started_again_after_growing_pauses_and_not_for_ever(starts: Path) -> None:
    clock = Time(starts)
    assert supervised("sys.exit(70)", starts, clock) == 70
    assert clock.slept == sum(2.0**number for number in range(RESTARTS))
    assert len(starts.read_text()) == 1 + RESTARTS


def test_an_agent_that_was_killed_is_started_again(starts: Path) -> None:
    program = "import os; len(file.read_text()) < 3 and os.kill(os.getpid(), 9)"
    clock = Time(starts)
    assert supervised(program, starts, clock) == 0
    assert (starts.read_text(), clock.slept) == ("xxx", 1.0 + 2.0)


def test_an_agent_that_lived_long_begins_anew(starts: Path) -> None:
    clock = Time(starts, HEALTHY_S)
    assert supervised(f"sys.exit(0 if len(file.read_text()) == {RESTARTS + 5} else 1)", starts, clock) == 0
    assert clock.slept == RESTARTS + 4


def test_who_asks_to_end_between_two_agents_does_not_wait_for_the_next(starts: Path) -> None:
    class Asked(Time):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.slept >= 10.0:
                os.kill(os.getpid(), signal.SIGTERM)

    clock = Asked(starts)
    assert supervised("sys.exit(70)", starts, clock) == 70
    assert (starts.read_text(), clock.slept) == ("xxxx", 10.0)


def test_an_agent_that_gives_no_sign_of_life_is_killed_and_started_again(starts: Path) -> None:
    program = "import os, signal; len(file.read_text()) < 2 and os.kill(os.getpid(), signal.SIGSTOP); sys.exit(0)"
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    command = [sys.executable, "-c", COUNT + program, str(starts)]
    supervisor = Supervisor(command, signs=starts.parent, wedged_s=5.0, look_s=0.05, sleep=lambda _: None)
    try:
        assert supervisor.run() == 0
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert starts.read_text() == "xx"


SUPERVISE = """
import json, sys
from kubeq_consumer.supervising import Supervisor
sys.exit(Supervisor(json.loads(sys.argv[1])).run())
"""
LEAVES_WHEN_ASKED = """
import pathlib, signal, sys, time
def leave(number, frame):
    file.write_text(file.read_text() + 'asked')
    sys.exit(3)
file = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, leave)
file.write_text(file.read_text() + 'x')
time.sleep(60)
"""


def test_who_ends_the_supervisor_ends_the_agent_which_is_not_started_again(starts: Path) -> None:
    command = json.dumps([sys.executable, "-c", LEAVES_WHEN_ASKED, str(starts)])
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISE, command], env=dict(os.environ))
    deadline = time.monotonic() + 20
    while starts.read_text() != "x" and time.monotonic() < deadline:
        time.sleep(0.02)
    supervisor.terminate()
    assert supervisor.wait(20) == 3
    assert starts.read_text() == "xasked"
