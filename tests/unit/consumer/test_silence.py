"""When an agent gives its queue up."""

from __future__ import annotations

from kubeq.errors import AccessDenied, BackendError
from kubeq_consumer.silence import LOST_S, REFUSED_S, Silence
from tests.jobs import FakeClock


def test_a_queue_that_is_away_is_waited_for_for_a_day() -> None:
    clock = FakeClock()
    silence = Silence(clock)
    silence.go_on(BackendError("away", transient=True))
    clock.advance(LOST_S - 1)
    assert not silence.is_final(holding=True)
    clock.advance(2)
    assert silence.is_final(holding=True)


def test_an_agent_that_holds_nothing_waits_only_as_long_as_it_was_told() -> None:
    clock = FakeClock()
    silence = Silence(clock, 900.0)
    clock.advance(899)
    assert not silence.is_final(holding=False)
    clock.advance(2)
    assert silence.is_final(holding=False)
    assert not silence.is_final(holding=True)
    clock.advance(LOST_S)
    assert silence.is_final(holding=True)


def test_an_answer_ends_the_silence() -> None:
    clock = FakeClock()
    silence = Silence(clock)
    clock.advance(LOST_S - 1)
    silence.end()
    clock.advance(LOST_S - 1)
    assert not silence.is_final(holding=True)


def test_a_no_is_believed_sooner_unless_it_turns_into_something_else() -> None:
    clock = FakeClock()
    silence = Silence(clock)
    silence.go_on(AccessDenied("let go"))
    clock.advance(REFUSED_S + 1)
    assert silence.is_final(holding=True)
    silence.go_on(BackendError("away", transient=True))
    assert not silence.is_final(holding=True)
