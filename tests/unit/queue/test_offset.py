"""The difference of two clocks, learned from dates that are cut to the second."""

from __future__ import annotations

import random
from email.utils import formatdate

import pytest

from kubeq.queue.offset import ClockOffset

NOW = 1_800_000_000.0


def saw(offset: ClockOffset, server: float, sent_at: float, took: float = 0.02) -> None:
    offset.saw(formatdate(server, usegmt=True), sent_at=sent_at, received_at=sent_at + took)


def test_nothing_is_added_before_the_first_answer() -> None:
    assert ClockOffset().seconds() == 0.0


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.999])
def test_clocks_that_agree_are_left_alone_whatever_part_of_a_second_it_is(fraction: float) -> None:
    offset = ClockOffset()
    saw(offset, NOW + fraction + 0.01, NOW + fraction)
    assert offset.seconds() == 0.0


@pytest.mark.parametrize("ahead", [-3600.0, -7.3, 7.3, 3600.0])
def test_one_answer_tells_the_difference_to_half_a_second(ahead: float) -> None:
    offset = ClockOffset()
    saw(offset, NOW + ahead, NOW)
    assert offset.seconds() == pytest.approx(ahead, abs=0.6)


def test_many_answers_tell_it_to_the_time_that_one_takes() -> None:
    offset, dice = ClockOffset(), random.Random(1)
    for _ in range(200):
        at = NOW + dice.uniform(0, 1000)
        saw(offset, at + 12.34 + 0.01, at)
    assert offset.seconds() == pytest.approx(12.34, abs=0.03)


def test_an_exact_time_tells_the_difference_to_the_time_that_the_answer_took() -> None:
    offset = ClockOffset()
    offset.saw_time(NOW + 7.31, NOW + 7.31, sent_at=NOW + 0.3, received_at=NOW + 0.32)
    assert offset.seconds() == pytest.approx(7.0, abs=0.011)


def test_a_clock_that_was_set_is_believed_at_the_next_answer() -> None:
    offset = ClockOffset()
    for second in range(10):
        saw(offset, NOW + second, NOW + second)
    saw(offset, NOW + 10, NOW + 10 - 7200)
    assert offset.seconds() == pytest.approx(7200, abs=0.6)


def test_what_is_no_date_is_passed_over() -> None:
    offset = ClockOffset()
    for nonsense in ("", "soon", "32 Foo 2026"):
        offset.saw(nonsense, sent_at=NOW, received_at=NOW)
    assert offset.seconds() == 0.0


def test_an_answer_during_which_this_clock_was_set_back_is_passed_over() -> None:
    offset = ClockOffset()
    saw(offset, NOW, NOW, took=-3600.0)
    assert offset.seconds() == 0.0
