"""Requests side by side: in their order, ended by the first error, and none under way afterwards."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from kubeq.errors import BackendError
from kubeq.queue.patience import Patience
from kubeq.queue.side_by_side import SideBySide


def test_answers_come_in_the_order_of_the_calls() -> None:
    def answer(number: int) -> int:
        time.sleep(0.01 * (4 - number))
        return number

    assert SideBySide(4, "test").run([partial(answer, number) for number in range(4)]) == [0, 1, 2, 3]
    assert SideBySide(4, "test").run([]) == []


def test_a_single_call_is_made_by_the_thread_itself() -> None:
    assert SideBySide(4, "test").run([threading.get_ident]) == [threading.get_ident()]


def test_the_first_error_ends_what_waits_and_what_has_not_begun_at_once() -> None:
    crew, waiting, begun = SideBySide(2, "test"), threading.Event(), list[str]()
    patience = Patience(total_s=60.0, draw=lambda: 1.0)

    def busy() -> None:
        begun.append("busy")
        waiting.set()
        raise BackendError("the table is busy", transient=True)

    def refused() -> None:
        assert waiting.wait(30)
        begun.append("refused")
        time.sleep(0.3)  # so that the other one is in a longer pause
        raise BackendError("you may not")

    calls = [lambda: patience.repeat(busy, crew.ended), refused, *[lambda: begun.append("late")] * 5]
    started = time.monotonic()
    with pytest.raises(BackendError, match="you may not"):
        crew.run(calls)
    assert time.monotonic() - started < 10.0
    seen = begun.copy()
    time.sleep(0.3)
    assert begun == seen and "late" not in begun
    assert crew.ended is None


def test_threads_that_have_worked_for_a_batch_that_failed_work_for_the_next_one() -> None:
    crew = SideBySide(2, "test")

    def refused() -> int:
        raise BackendError("you may not")

    with pytest.raises(BackendError):
        crew.run([refused, refused])

    def unended() -> bool:
        return crew.ended is not None and not crew.ended.is_set()

    assert crew.run([unended] * 4) == [True] * 4
