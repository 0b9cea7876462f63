"""How long a request is made again."""

from __future__ import annotations

import logging
import threading

import pytest

from kubeq.errors import AccessDenied, BackendError
from kubeq.pausing import TELL_EVERY_S, Notice
from kubeq.queue.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S, PATIENCE_S, TELL_AFTER, Patience


class Times:
    """Time that passes only in pauses, of which each is as long as it may be."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def patience(self, total_s: float = PATIENCE_S) -> Patience:
        def now() -> float:
            return self.now

        told = Notice(logging.getLogger("kubeq"), now)
        return Patience(total_s=total_s, sleep=self.sleep, draw=lambda: 1.0, now=now, notice=told)


class Failing:
    """Fails so often, then answers."""

    def __init__(self, times: int, error: BackendError | None = None) -> None:
        self.left = times
        self.calls = 0
        self.error = error or BackendError("the table is busy", transient=True)

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.left:
            raise self.error
        return "answer"


def test_what_fails_for_a_moment_is_asked_again_with_pauses_that_double_up_to_a_bound() -> None:
    times = Times()
    assert times.patience(1e9).repeat(Failing(9)) == "answer"
    assert times.pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert times.pauses[-1] == LONGEST_PAUSE_S


def test_when_patience_ends_the_error_says_that_it_was_had() -> None:
    times = Times()
    with pytest.raises(BackendError) as raised:
        times.patience().repeat(Failing(1_000_000))
    assert raised.value.waited
    assert PATIENCE_S - LONGEST_PAUSE_S < times.now < PATIENCE_S


@pytest.mark.parametrize(
    "error",
    [
        AccessDenied("no"),
        BackendError("no"),
        BackendError("it has been waited for below", transient=True, waited=True),
    ],
)
def test_what_another_try_would_not_mend_is_raised_at_once(error: BackendError) -> None:
    times, failing = Times(), Failing(1, error)
    with pytest.raises(BackendError):
        times.patience().repeat(failing)
    assert (failing.calls, times.pauses) == (1, [])


def test_who_waits_long_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = Times()
    patience = times.patience(1e9)
    with caplog.at_level(logging.WARNING):
        patience.repeat(Failing(TELL_AFTER - 1))
        assert caplog.messages == []
        patience.repeat(Failing(TELL_AFTER + 3))
        patience.repeat(Failing(TELL_AFTER + 3))
        assert caplog.messages == ["the table is busy; trying again"]
        times.now += TELL_EVERY_S
        patience.repeat(Failing(TELL_AFTER))
        assert len(caplog.messages) == 2


def test_patience_ends_when_it_is_told_to() -> None:
    times, failing, stop = Times(), Failing(1_000_000), threading.Event()
    stop.set()
    with pytest.raises(BackendError) as raised:
        times.patience().repeat(failing, stop)
    assert failing.calls == 1
    assert not raised.value.waited
