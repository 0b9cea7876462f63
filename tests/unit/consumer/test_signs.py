"""Signs of life, and who looks at them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from kubeq_consumer.signs import ALIVE, EVERY_S, REGISTERED, Pulse, Signs, kill_when_still
from tests.jobs import FakeClock


def test_a_sign_is_left_now_and_then_and_a_registration_once(tmp_path: Path) -> None:
    clock = FakeClock()
    signs = Signs(tmp_path, clock.monotonic)
    signs.alive()
    signs.registered()
    assert {path.name for path in tmp_path.iterdir()} == {ALIVE, REGISTERED}
    for path in tmp_path.iterdir():
        path.unlink()
    signs.registered()
    signs.alive()
    assert list(tmp_path.iterdir()) == []
    clock.advance(EVERY_S)
    signs.alive()
    assert [path.name for path in tmp_path.iterdir()] == [ALIVE]


def test_without_a_folder_and_with_one_that_is_gone_an_agent_works_all_the_same(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "gone"):
        signs = Signs(folder, FakeClock().monotonic)
        signs.alive()
        signs.registered()
    assert list(tmp_path.iterdir()) == []


def test_a_pulse_is_still_for_as_long_as_no_new_sign_has_come(tmp_path: Path) -> None:
    clock = FakeClock()
    pulse = Pulse(tmp_path, clock.monotonic)
    clock.advance(100)
    assert pulse.still_for() == 100
    for second in (1, 2):
        (tmp_path / ALIVE).touch()
        os.utime(tmp_path / ALIVE, (second, second))
        assert pulse.still_for() == 0, "whatever the clock of files says"
        clock.advance(50)
        assert pulse.still_for() == 50


def test_who_gives_no_sign_is_killed_and_who_has_ended_is_left_alone(tmp_path: Path) -> None:
    clock, killed = FakeClock(), list[str]()
    pulse = Pulse(tmp_path, clock.monotonic)
    ended = threading.Event()
    ended.set()
    clock.advance(901)
    kill_when_still(pulse, 900.0, ended, lambda: killed.append("ended"), 0.01)
    kill_when_still(pulse, 900.0, threading.Event(), lambda: killed.append("still"), 0.01)
    assert killed == ["still"]
