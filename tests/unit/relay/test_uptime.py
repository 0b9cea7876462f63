"""When silence behind a relay proves something: only after a whole term without a pause."""

from __future__ import annotations

import pytest

from kubeq.relay.uptime import MOST_PAUSES, Uptime
from tests.jobs import FakeClock

TERM_S = 60.0


@pytest.fixture
def uptime(clock: FakeClock) -> Uptime:
    """One that has been up, and in touch, for a long time."""
    one = Uptime(clock)
    go_on(one, clock, 10 * TERM_S)
    assert allows(one)
    return one


def go_on(uptime: Uptime, clock: FakeClock, seconds: float) -> None:
    """Nodes ask now and then, as they do."""
    for _ in range(round(seconds)):
        clock.advance(1.0)
        uptime.touch()


def allows(uptime: Uptime, lease_s: float = TERM_S, offset: float = 0.0) -> bool:
    return uptime.allows(clock_offset=offset, lease_s=lease_s)


def test_a_start_is_the_end_of_a_pause(clock: FakeClock) -> None:
    uptime = Uptime(clock)
    assert not allows(uptime)
    go_on(uptime, clock, 59)
    assert not allows(uptime)
    go_on(uptime, clock, 1)
    assert allows(uptime)


def test_a_pause_of_a_third_of_a_term_and_less_is_harmless(uptime: Uptime, clock: FakeClock) -> None:
    clock.advance(TERM_S / 3)
    assert allows(uptime)
    clock.advance(TERM_S / 3 + 0.5)
    assert not allows(uptime)


def test_after_a_pause_a_whole_term_has_to_go_by(uptime: Uptime, clock: FakeClock) -> None:
    clock.advance(1000.0)
    assert not allows(uptime)
    go_on(uptime, clock, 59)
    assert not allows(uptime)
    go_on(uptime, clock, 2)
    assert allows(uptime)


@pytest.mark.parametrize("jump", [3600.0, -3600.0], ids=["a sleep, or a clock set forward", "a clock set back"])
def test_a_jump_of_the_wall_clock_is_a_pause(uptime: Uptime, clock: FakeClock, jump: float) -> None:
    clock.wall += jump
    assert not allows(uptime)
    go_on(uptime, clock, 61)
    assert allows(uptime)


def test_a_pause_counts_for_the_terms_that_are_shorter_than_three_of_it(uptime: Uptime, clock: FakeClock) -> None:
    clock.advance(10.0)
    uptime.touch()
    assert not allows(uptime, 20.0)
    assert allows(uptime, 60.0)
    go_on(uptime, clock, 20)
    assert allows(uptime, 20.0)


def test_a_short_pause_does_not_make_a_long_one_forgotten(uptime: Uptime, clock: FakeClock) -> None:
    clock.advance(1000.0)
    uptime.touch()
    go_on(uptime, clock, 30)
    clock.advance(5.0)
    uptime.touch()
    go_on(uptime, clock, 20)
    assert not allows(uptime)
    go_on(uptime, clock, 6)
    assert allows(uptime)


def test_a_clock_far_from_the_queues_takes_nothing_over(uptime: Uptime) -> None:
    assert allows(uptime, offset=29.0)
    assert not allows(uptime, offset=31.0)
    assert not allows(uptime, offset=-31.0)


def test_what_is_remembered_is_bounded_and_the_latest_is_never_dropped(clock: FakeClock) -> None:
    uptime = Uptime(clock)
    for number in range(10 * MOST_PAUSES):
        clock.advance(1000.0 - number)
        uptime.touch()
    assert len(uptime._pauses) <= MOST_PAUSES
    assert not allows(uptime)
