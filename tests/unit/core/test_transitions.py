"""Every state meets every event, and the answer is the one that the table of state machines gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kubeq.core import transitions as t
from kubeq.core.digest import Digest
from kubeq.core.model import (
    Attempt,
    Ending,
    Exit,
    Job,
    JobId,
    JobStatus,
    NodeName,
    Policy,
    PoolId,
    Reason,
    Task,
    TaskId,
    TaskState,
)
from kubeq.core.resources import Resources
from kubeq.errors import IllegalTransition, LeaseLost

NOW = 1000.0
POLICY = Policy(retries=1, loss_limit=2, lease_s=120.0)
REPORT = t.Report(started_at=990.0, ended_at=NOW, exit=Exit(code=0), outputs=3)
HELD = Attempt(number=4, node=NodeName("n1"), nonce="mine", claimed_at=980.0)

PENDING = Task(id=TaskId(JobId("j"), 1), claimable_at=900.0, attempt=3)
BACKING_OFF = replace(PENDING, claimable_at=1001.0, failures=1)
CLAIMED = replace(PENDING, state=TaskState.CLAIMED, claimable_at=1100.0, attempt=4, attempts=(HELD,))
EXPIRED = replace(CLAIMED, claimable_at=999.0)
STOPPING = replace(CLAIMED, cancel_asked=True)
EXPIRED_STOPPING = replace(EXPIRED, cancel_asked=True)
LOST_TOO_OFTEN = replace(EXPIRED, losses=2)
OUT_OF_RETRIES = replace(CLAIMED, failures=1)
SUCCEEDED = replace(PENDING, state=TaskState.SUCCEEDED, claimable_at=None, attempt=4, result=4)
FAILED = replace(
    PENDING, state=TaskState.FAILED, claimable_at=None, attempt=4, reason=Reason.EXIT, failures=2, losses=1
)
CANCELLED = replace(PENDING, state=TaskState.CANCELLED, claimable_at=None, reason=Reason.CANCELLED)

STATES = {
    "pending": PENDING,
    "backing_off": BACKING_OFF,
    "claimed": CLAIMED,
    "expired": EXPIRED,
    "stopping": STOPPING,
    "expired_stopping": EXPIRED_STOPPING,
    "lost_too_often": LOST_TOO_OFTEN,
    "out_of_retries": OUT_OF_RETRIES,
    "succeeded": SUCCEEDED,
    "failed": FAILED,
    "cancelled": CANCELLED,
}
EVENTS: dict[str, Callable[[Task], Task]] = {
    "claim": lambda task: t.claim(task, node=NodeName("n2"), nonce="theirs", now=NOW, policy=POLICY),
    "renew": lambda task: t.renew(task, attempt=4, now=NOW, policy=POLICY),
    "succeed": lambda task: t.succeed(task, attempt=4, report=REPORT),
    "fail": lambda task: t.fail(task, attempt=4, reason=Reason.EXIT, report=REPORT, policy=POLICY),
    "release": lambda task: t.release(task, attempt=4, report=REPORT),
    "stopped": lambda task: t.stopped(task, attempt=4, report=REPORT),
    "cancel": t.cancel,
    "retry": lambda task: t.retry(task, now=NOW),
    "reset": lambda task: t.reset(task, now=NOW),
    "reset_all": lambda task: t.reset(task, now=NOW, succeeded=True),
    "force": lambda task: t.reset(task, now=NOW, succeeded=True, force=True),
    "lose": lambda task: t.lose(task, now=NOW),
    "disown": lambda task: t.disown(task, now=NOW, policy=POLICY),
    "old_renew": lambda task: t.renew(task, attempt=3, now=NOW, policy=POLICY),
    "old_succeed": lambda task: t.succeed(task, attempt=3, report=REPORT),
    "old_fail": lambda task: t.fail(task, attempt=3, reason=Reason.EXIT, report=REPORT, policy=POLICY),
    "old_release": lambda task: t.release(task, attempt=3, report=REPORT),
}
HOLDING = ("claimed", "expired", "stopping", "expired_stopping", "lost_too_often", "out_of_retries")
P, C, S, F, X = (
    TaskState.PENDING,
    TaskState.CLAIMED,
    TaskState.SUCCEEDED,
    TaskState.FAILED,
    TaskState.CANCELLED,
)
LEGAL: dict[str, dict[str, TaskState]] = {
    "claim": {"pending": C, "expired": C, "expired_stopping": X, "lost_too_often": F},
    "renew": dict.fromkeys(HOLDING, C),
    "succeed": dict.fromkeys(HOLDING, S),
    "fail": {**dict.fromkeys(HOLDING, P), "stopping": F, "expired_stopping": F, "out_of_retries": F},
    "release": {**dict.fromkeys(HOLDING, P), "stopping": X, "expired_stopping": X},
    "stopped": {"stopping": X, "expired_stopping": X},
    "cancel": {"pending": X, "backing_off": X, **dict.fromkeys(HOLDING, C)},
    "retry": {"failed": P, "cancelled": P},
    "reset": dict.fromkeys(
        ("pending", "backing_off", "expired", "expired_stopping", "lost_too_often", "failed", "cancelled"), P
    ),
    "reset_all": dict.fromkeys(
        ("pending", "backing_off", "expired", "expired_stopping", "lost_too_often", "failed", "cancelled", "succeeded"),
        P,
    ),
    "force": dict.fromkeys(STATES, P),
    "disown": {
        **dict.fromkeys(HOLDING, P),
        "stopping": X,
        "expired_stopping": X,
        "lost_too_often": F,
    },
    "lose": dict.fromkeys(("expired", "expired_stopping", "lost_too_often"), P),
}
OLD = ("old_renew", "old_succeed", "old_fail", "old_release")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_state_answers_every_event_as_the_table_says(state: str, event: str) -> None:
    task, expected = STATES[state], LEGAL.get(event, {}).get(state)
    if expected is None:
        with pytest.raises(IllegalTransition):
            EVENTS[event](task)
        return
    after = EVENTS[event](task)
    assert after.state is expected
    assert after.attempt >= task.attempt, "an attempt number went down"
    assert (after.claimable_at is None) == (after.state not in (P, C))
    assert (after.reason is None) == (after.state not in (F, X))


@pytest.mark.parametrize("event", OLD)
def test_a_superseded_attempt_can_change_nothing(event: str) -> None:
    for task in STATES.values():
        with pytest.raises(LeaseLost):
            EVENTS[event](task)


def test_a_claim_gives_the_next_number_and_a_full_term() -> None:
    claimed = EVENTS["claim"](PENDING)
    assert claimed.attempt == 4
    assert claimed.claimable_at == NOW + 120
    assert claimed.current is not None
    assert (claimed.current.nonce, claimed.current.node) == ("theirs", "n2")
    assert claimed.losses == 0


def test_taking_over_an_expired_lease_costs_a_loss_and_not_a_failure() -> None:
    claimed = EVENTS["claim"](EXPIRED)
    assert (claimed.attempt, claimed.losses, claimed.failures) == (5, 1, 0)
    assert claimed.attempts[-2].ending is Ending.LOST
    assert claimed.attempts[-2].reason is Reason.LOST


def test_a_task_lost_too_often_fails_as_lost() -> None:
    ended = EVENTS["claim"](LOST_TOO_OFTEN)
    assert (ended.state, ended.reason, ended.attempt) == (F, Reason.LOST, 4)


def test_a_failure_with_retries_left_backs_off_longer_each_time() -> None:
    patient = replace(POLICY, retries=100)
    waits = []
    for failures in range(12):
        again = t.fail(
            replace(CLAIMED, failures=failures), attempt=4, reason=Reason.EXIT, report=REPORT, policy=patient
        )
        waits.append((again.claimable_at or 0.0) - NOW)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == t.BACKOFF_LONGEST_S


def test_a_finished_outcome_stays_although_a_cancel_was_asked() -> None:
    assert EVENTS["succeed"](STOPPING).state is S
    assert EVENTS["fail"](STOPPING).state is F


def test_retry_forgets_failures_and_losses_but_never_the_attempt_number() -> None:
    again = t.retry(FAILED, now=NOW)
    assert (again.failures, again.losses, again.attempt, again.claimable_at) == (0, 0, 4, NOW)


def test_a_forced_reset_fences_the_attempt_that_runs() -> None:
    again = EVENTS["force"](CLAIMED)
    with pytest.raises(LeaseLost):
        t.succeed(again, attempt=4, report=REPORT)
    assert EVENTS["claim"](again).attempt == 5


def test_the_report_stands_in_the_history() -> None:
    task = EVENTS["succeed"](CLAIMED)
    assert (task.result, task.outputs) == (4, 3)
    assert task.attempts[-1] == replace(
        HELD, started_at=990.0, ended_at=NOW, ending=Ending.SUCCEEDED, exit=Exit(code=0)
    )


def test_history_is_bounded_and_says_how_much_was_forgotten() -> None:
    task = PENDING
    for _ in range(t.ATTEMPTS_KEPT + 5):
        task = EVENTS["claim"](replace(task, claimable_at=NOW))
        task = t.release(task, attempt=task.attempt, report=REPORT)
    assert len(task.attempts) == t.ATTEMPTS_KEPT
    assert task.forgotten_attempts == 5
    assert task.attempts[-1].number == task.attempt


def test_resources_of_its_own_are_for_a_pending_task_only() -> None:
    assert t.with_resources(PENDING, Resources(cpu=2)).resources == Resources(cpu=2)
    with pytest.raises(IllegalTransition):
        t.with_resources(CLAIMED, Resources(cpu=2))


@pytest.mark.parametrize(
    ("gates", "tasks", "status"),
    [
        ({"sealed_at": None}, {P: 2}, JobStatus.INCOMPLETE),
        ({}, {P: 2}, JobStatus.QUEUED),
        ({}, {P: 2, C: 1, F: 1}, JobStatus.RUNNING),
        ({"paused": True}, {P: 2, C: 1}, JobStatus.PAUSED),
        ({"paused": True}, {S: 2}, JobStatus.SUCCEEDED),
        ({}, {P: 1, F: 1}, JobStatus.QUEUED),
        ({}, {S: 5, F: 1, X: 1}, JobStatus.FAILED),
        ({}, {S: 5, X: 1}, JobStatus.CANCELLED),
        ({}, {S: 5}, JobStatus.SUCCEEDED),
    ],
)
def test_the_status_of_a_job_follows_from_its_gates_and_counts(
    gates: dict[str, object], tasks: dict[TaskState, int], status: JobStatus
) -> None:
    job = Job(
        id=JobId("j"),
        name="j",
        pool=PoolId("p"),
        user="u",
        host="h",
        submitted_at=0.0,
        total=9,
        spec=Digest.of(b""),
        columns=(),
        resources=Resources(),
        policy=POLICY,
        results_url="",
        sealed_at=1.0,
    )
    assert t.job_status(replace(job, **gates), tasks) is status  # type: ignore[arg-type]
