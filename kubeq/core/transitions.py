"""Every legal change of a task: pure functions from the old record to the new one, or an error.

This file is the only place that knows what may happen to a task (architecture: State machines). Queues apply these
functions to the row they read and store the answer with a compare-and-swap; they never write a state of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubeq.core.model import (
    UNFINISHED,
    Attempt,
    Ending,
    Exit,
    Job,
    JobStatus,
    NodeName,
    Policy,
    Reason,
    Task,
    TaskState,
    Usage,
)
from kubeq.core.resources import Resources
from kubeq.errors import IllegalTransition, LeaseLost

ATTEMPTS_KEPT = 20
"""History is bounded so that a row stays far below the smallest row limit of any backend (400 KB, DynamoDB)."""
BACKOFF_FIRST_S = 1.0
BACKOFF_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an agent knows at the end of an attempt, whatever the end was."""

    ended_at: float
    started_at: float | None = None
    exit: Exit | None = None
    usage: Usage | None = None
    outputs: int = 0
    message: str | None = None


def claim(task: Task, *, node: NodeName, nonce: str, now: float, policy: Policy) -> Task:
    """The task with a new attempt of `node`; or, for an expired lease that may not be taken over, the task ended.

    The caller looks at the state of the answer: `claimed` with its own nonce is a grant, anything else is not.
    """
    if task.claimable_at is None or task.claimable_at > now:
        raise IllegalTransition(f"task {task.id} cannot be claimed: it is {_describe(task)}")
    if task.state is TaskState.CLAIMED:
        if task.cancel_asked:
            return _end(task, TaskState.CANCELLED, Reason.CANCELLED, Ending.LOST, Report(ended_at=now))
        if task.losses >= policy.loss_limit:
            return _end(task, TaskState.FAILED, Reason.LOST, Ending.LOST, Report(ended_at=now))
        task = lose(task, now=now)
    attempt = Attempt(number=task.attempt + 1, node=node, nonce=nonce, claimed_at=now)
    attempts = (*task.attempts, attempt)
    dropped = max(0, len(attempts) - ATTEMPTS_KEPT)
    return replace(
        task,
        state=TaskState.CLAIMED,
        reason=None,
        attempt=attempt.number,
        claimable_at=now + policy.lease_s,
        attempts=attempts[dropped:],
        forgotten_attempts=task.forgotten_attempts + dropped,
    )


def lose(task: Task, *, now: float) -> Task:
    """An expired claim returned to pending: its attempt is lost, which costs a loss and not a failure."""
    if task.state is not TaskState.CLAIMED or task.claimable_at is None or task.claimable_at > now:
        raise IllegalTransition(f"task {task.id} is not lost: it is {_describe(task)}")
    ended = _end(task, TaskState.PENDING, None, Ending.LOST, Report(ended_at=now))
    return replace(ended, losses=task.losses + 1, claimable_at=now)


def expire(task: Task, *, now: float, policy: Policy) -> Task:
    """What becomes of an expired claim where nothing may be started: cancelled, failed, or pending with one loss."""
    if task.cancel_asked or task.losses >= policy.loss_limit:
        return claim(task, node=NodeName(""), nonce="", now=now, policy=policy)  # either ends the task
    return lose(task, now=now)


def disown(task: Task, *, now: float, policy: Policy) -> Task:
    """What becomes of a claim whose holder is certainly gone (its process was seen to have ended): as if its lease had.

    Whoever calls this has proof and not just silence; a holder that is merely silent keeps its claim for the term.
    """
    if task.state is not TaskState.CLAIMED:
        raise IllegalTransition(f"task {task.id} is held by nobody: it is {task.state}")
    return expire(replace(task, claimable_at=min(now, task.claimable_at or now)), now=now, policy=policy)


def renew(task: Task, *, attempt: int, now: float, policy: Policy, started_at: float | None = None) -> Task:
    """The lease extended. The answer's `cancel_asked` tells the agent to stop. Raises LeaseLost."""
    current = _held(task, attempt)
    if started_at is not None and current.started_at is None:
        current = replace(current, started_at=started_at)
    return replace(task, claimable_at=now + policy.lease_s, attempts=(*task.attempts[:-1], current))


def succeed(task: Task, *, attempt: int, report: Report) -> Task:
    """The task succeeded by this attempt, even if a cancel was asked meanwhile: finished outcomes stay."""
    _held(task, attempt)
    ended = _end(task, TaskState.SUCCEEDED, None, Ending.SUCCEEDED, report)
    return replace(ended, result=attempt, outputs=report.outputs, cancel_asked=False)


def fail(task: Task, *, attempt: int, reason: Reason, report: Report, policy: Policy) -> Task:
    """A failed attempt: back to pending with a back-off while retries are left, else the task failed."""
    _held(task, attempt)
    if task.cancel_asked or task.failures >= policy.retries:
        ended = _end(task, TaskState.FAILED, reason, Ending.FAILED, report)
        return replace(ended, failures=task.failures + 1, result=attempt, outputs=report.outputs, cancel_asked=False)
    again = _end(task, TaskState.PENDING, None, Ending.FAILED, report, reason)
    wait = min(BACKOFF_FIRST_S * 2**task.failures, BACKOFF_LONGEST_S)
    return replace(again, failures=task.failures + 1, claimable_at=report.ended_at + wait)


def release(task: Task, *, attempt: int, report: Report) -> Task:
    """The attempt given back unfinished: pending at no cost, or cancelled if that was asked."""
    _held(task, attempt)
    if task.cancel_asked:
        return stopped(task, attempt=attempt, report=report)
    return replace(_end(task, TaskState.PENDING, None, Ending.RELEASED, report), claimable_at=report.ended_at)


def stopped(task: Task, *, attempt: int, report: Report) -> Task:
    """The command was stopped because a cancel was asked."""
    _held(task, attempt)
    if not task.cancel_asked:
        raise IllegalTransition(f"nobody asked to cancel task {task.id}")
    return _end(task, TaskState.CANCELLED, Reason.CANCELLED, Ending.CANCELLED, report)


def cancel(task: Task) -> Task:
    """Pending: cancelled at once. Claimed: a flag that the holder's next renewal sees, never a state."""
    match task.state:
        case TaskState.PENDING:
            return replace(task, state=TaskState.CANCELLED, reason=Reason.CANCELLED, claimable_at=None)
        case TaskState.CLAIMED:
            return replace(task, cancel_asked=True)
        case _:
            raise IllegalTransition(f"task {task.id} cannot be cancelled: it is {task.state}")


def retry(task: Task, *, now: float) -> Task:
    """A failed or cancelled task pending again, failures and losses forgotten; the attempt number stays."""
    if task.state not in (TaskState.FAILED, TaskState.CANCELLED):
        raise IllegalTransition(f"task {task.id} cannot be retried: it is {task.state}")
    return _again(task, now)


def reset(task: Task, *, now: float, succeeded: bool = False, force: bool = False) -> Task:
    """Anything but a healthy claim pending again; a succeeded task only if `succeeded`, a live claim only if `force`.

    A forced claim is fenced: the next claim has a larger number and the old attempt can change nothing any more.
    """
    match task.state:
        case TaskState.SUCCEEDED if not succeeded:
            raise IllegalTransition(f"task {task.id} succeeded; it is reset only when asked for by name or --all")
        case TaskState.CLAIMED:
            if (task.claimable_at or 0.0) > now and not force:
                raise IllegalTransition(f"task {task.id} is running and its node is alive; --force resets it")
            task = _end(task, TaskState.PENDING, None, Ending.LOST, Report(ended_at=now))
        case TaskState.PENDING:
            if task.failures == 0 and task.losses == 0:
                return replace(task, claimable_at=min(now, task.claimable_at or now))
        case _:
            pass
    return _again(task, now)


def with_resources(task: Task, resources: Resources | None) -> Task:
    """The pending task with a request of its own in place of the job's."""
    if task.state is not TaskState.PENDING:
        raise IllegalTransition(f"task {task.id} is {task.state}; only a pending task can be given other resources")
    return replace(task, resources=resources)


def job_status(job: Job, tasks: Mapping[TaskState, int]) -> JobStatus:
    """The status of a job from its gates and the number of its tasks in each state."""
    if job.sealed_at is None:
        return JobStatus.INCOMPLETE
    if job.paused and any(tasks.get(state) for state in UNFINISHED):
        return JobStatus.PAUSED
    for state, status in (
        (TaskState.CLAIMED, JobStatus.RUNNING),
        (TaskState.PENDING, JobStatus.QUEUED),
        (TaskState.FAILED, JobStatus.FAILED),
        (TaskState.CANCELLED, JobStatus.CANCELLED),
    ):
        if tasks.get(state):
            return status
    return JobStatus.SUCCEEDED


def _held(task: Task, attempt: int) -> Attempt:
    """The current attempt, if it is `attempt` and still holds the task."""
    current = task.current
    if task.state is not TaskState.CLAIMED or current is None or task.attempt != attempt:
        raise LeaseLost(f"attempt {attempt} of task {task.id} is no longer current: the task is {_describe(task)}")
    return current


def _end(
    task: Task,
    state: TaskState,
    reason: Reason | None,
    ending: Ending,
    report: Report,
    why: Reason | None = None,
) -> Task:
    """The task in `state`, its current attempt closed with `ending`; `why` is the attempt's own reason."""
    attempts = task.attempts
    if attempts and attempts[-1].ended_at is None:
        last = attempts[-1]
        closed = replace(
            last,
            ended_at=report.ended_at,
            started_at=report.started_at if report.started_at is not None else last.started_at,
            ending=ending,
            reason=why or reason or (Reason.LOST if ending is Ending.LOST else None),
            exit=report.exit,
            usage=report.usage,
            message=report.message,
        )
        attempts = (*attempts[:-1], closed)
    return replace(task, state=state, reason=reason, claimable_at=None, attempts=attempts)


def _again(task: Task, now: float) -> Task:
    return replace(
        task,
        state=TaskState.PENDING,
        reason=None,
        claimable_at=now,
        failures=0,
        losses=0,
        cancel_asked=False,
        result=None,
        outputs=0,
    )


def _describe(task: Task) -> str:
    if task.state is TaskState.CLAIMED and task.current is not None:
        return f"claimed by {task.current.node} as attempt {task.attempt}"
    return str(task.state)
