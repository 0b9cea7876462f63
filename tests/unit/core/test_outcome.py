"""The table from what the runtime saw to what is recorded, a test a row."""

from __future__ import annotations

import pytest

from kubeq.core.model import Ending, Exit, Reason
from kubeq.core.outcome import Stop, judge


@pytest.mark.parametrize(
    ("exit", "stop", "ending", "reason"),
    [
        (Exit(code=0), None, Ending.SUCCEEDED, None),
        (Exit(code=3), None, Ending.FAILED, Reason.EXIT),
        (Exit(code=0, out_of_memory=True), None, Ending.FAILED, Reason.OUT_OF_MEMORY),
        (Exit(signal=9, out_of_memory=True), None, Ending.FAILED, Reason.OUT_OF_MEMORY),
        (Exit(signal=11), None, Ending.FAILED, Reason.SIGNAL),
        (Exit(vanished=True), None, Ending.RELEASED, None),
        (Exit(signal=9, vanished=True), None, Ending.RELEASED, None),
        (Exit(never_started="no such program"), None, Ending.FAILED, Reason.IMAGE),
        (Exit(code=0), Stop.RELEASED, Ending.RELEASED, None),
        (Exit(code=0), Stop.SUPERSEDED, Ending.RELEASED, None),
        (Exit(code=0), Stop.CANCELLED, Ending.CANCELLED, Reason.CANCELLED),
        (Exit(signal=9), Stop.CANCELLED, Ending.CANCELLED, Reason.CANCELLED),
        (Exit(code=0), Stop.TIME_LIMIT, Ending.FAILED, Reason.TIME_LIMIT),
        (Exit(signal=9), Stop.TIME_LIMIT, Ending.FAILED, Reason.TIME_LIMIT),
    ],
)
def test_each_row_of_the_outcome_table(exit: Exit, stop: Stop | None, ending: Ending, reason: Reason | None) -> None:
    verdict = judge(exit, stop, timeout_s=5.0)
    assert (verdict.ending, verdict.reason) == (ending, reason)
    assert (verdict.message is None) == (ending is Ending.SUCCEEDED)


def test_out_of_memory_says_the_limit_and_the_peak() -> None:
    verdict = judge(Exit(signal=9, out_of_memory=True), memory=64_000_000, peak=63_900_000)
    assert verdict.message == "a process of it was killed for want of memory (limit 64.0 MB, peak 63.9 MB)"


def test_a_signal_is_called_by_its_name() -> None:
    assert judge(Exit(signal=11)).message == "ended by signal 11 (SIGSEGV)"
