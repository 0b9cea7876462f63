"""One test a row of the table from what the engine says to an Exit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kubeq.core.model import Exit
from kubeq_consumer.runtimes.docker_exit import Circumstances, cleaned, exit_of, is_machine_trouble, seconds_run

RAN = "2026-01-02T03:04:05.123456789Z"
NEVER = "0001-01-01T00:00:00Z"


def ended(code: int, **changes: Any) -> dict[str, Any]:
    return {"Status": "exited", "ExitCode": code, "StartedAt": RAN, "OOMKilled": False, "Error": ""} | changes


def said(state: dict[str, Any], **changes: Any) -> Exit:
    plain: dict[str, Any] = {"oom_kills": 0, "refusal": None, "engine_went": False, "engine_keeps_containers": False}
    return exit_of(state, Circumstances(**plain | changes))


@pytest.mark.parametrize("code", [0, 1, 125, 126, 127, 128, 160, 161, 193, 255])
def test_a_code_is_a_code(code: int) -> None:
    assert said(ended(code)) == Exit(code=code)


@pytest.mark.parametrize("signal", [1, 2, 6, 9, 11, 15, 34, 64])
def test_128_and_a_signal_is_that_signal(signal: int) -> None:
    assert said(ended(128 + signal)) == Exit(signal=signal)


def test_a_child_killed_for_want_of_memory_is_reported_with_exit_0() -> None:
    assert said(ended(0, OOMKilled=True)) == Exit(code=0, out_of_memory=True)


def test_the_cgroups_counter_is_believed_without_the_engines_flag() -> None:
    assert said(ended(137), oom_kills=1) == Exit(signal=9, out_of_memory=True)


def test_a_kill_by_an_engine_that_was_restarted_is_no_end_of_the_command() -> None:
    assert said(ended(137), engine_went=True) == Exit(vanished=True)
    assert said(ended(0), engine_went=True) == Exit(vanished=True)
    assert said(ended(137), engine_went=True, engine_keeps_containers=True) == Exit(vanished=True)


def test_want_of_memory_is_told_although_the_engine_was_restarted() -> None:
    assert said(ended(137, OOMKilled=True), engine_went=True) == Exit(signal=9, out_of_memory=True)


def test_with_live_restore_the_exit_code_is_honoured() -> None:
    assert said(ended(7), engine_went=True, engine_keeps_containers=True) == Exit(code=7)


def test_a_start_that_failed_has_the_engines_words() -> None:
    state = ended(127, StartedAt=NEVER, Status="created", Error="no such thing")
    assert said(state) == Exit(never_started="no such thing")


def test_a_start_that_was_never_answered_and_did_not_happen_is_no_failure() -> None:
    assert said(ended(0, StartedAt=NEVER, Status="created"), engine_went=True) == Exit(vanished=True)


def test_our_programs_refusal_is_believed_only_with_its_exit_codes() -> None:
    assert said(ended(127), refusal="cannot run 'x'") == Exit(never_started="cannot run 'x'")
    assert said(ended(126), refusal="cannot run 'x'") == Exit(never_started="cannot run 'x'")
    assert said(ended(0), refusal="cannot run 'x'") == Exit(code=0)


@pytest.mark.parametrize("status", ["removing", "dead"])
def test_a_container_that_somebody_removes_has_vanished(status: str) -> None:
    assert said(ended(137, Status=status)) == Exit(vanished=True)


def test_the_time_it_ran_is_the_engines() -> None:
    assert seconds_run(ended(0, FinishedAt="2026-01-02T03:04:06.623456789Z")) == pytest.approx(1.5)
    assert seconds_run(ended(0, FinishedAt="2026-01-02T04:04:06.623456789+01:00")) == pytest.approx(1.5)
    assert seconds_run(ended(0, FinishedAt=NEVER)) is None
    assert seconds_run(ended(0, StartedAt=NEVER, FinishedAt=RAN)) is None


def test_the_time_it_waited_at_its_gate_does_not_count() -> None:
    state = ended(0, FinishedAt="2026-01-02T03:04:06.623456789Z")
    started = datetime(2026, 1, 2, 3, 4, 5, 123457, tzinfo=UTC).timestamp()
    assert seconds_run(state, since=started + 1.0) == pytest.approx(0.5)
    assert seconds_run(state, since=started - 1.0) == pytest.approx(1.5), "the gate was open when it started"
    assert seconds_run(state, since=started + 2.0) == 0.0, "the clocks differ a little"


MISSING = (
    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
    'exec: "frob": executable file not found in $PATH: unknown'
)


def test_the_engines_words_are_shortened_to_what_helps() -> None:
    assert cleaned(MISSING) == "cannot run 'frob': executable file not found in $PATH"
    assert (
        cleaned('OCI runtime create failed: exec: "./x": permission denied: unknown')
        == "cannot run './x': permission denied"
    )
    assert cleaned("unable to find user bob:\n no matching entries") == "unable to find user bob: no matching entries"


def test_want_on_the_machine_is_told_from_a_fault_of_the_image() -> None:
    assert is_machine_trouble("write /x: no space left on device")
    assert is_machine_trouble("driver failed: Could not find bridge docker0")
    assert not is_machine_trouble(MISSING)
    assert not is_machine_trouble("unable to find user bob: no matching entries in passwd file")
