"""What may become of a task, in plain Python from the table of state machines in the architecture.

Written without `kubeq.core.transitions`, which it judges: nothing of it is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubeq.queue.base import Row

HISTORY_LIMIT = 20
BODY_LIMIT = 16_384
"""Bytes of a row: far below every backend's limit (reliability C53)."""
TERMINAL = ("succeeded", "failed", "cancelled")
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0

Due = tuple[float, float] | None
"""Between which times a task must be claimable again; None for never."""


class Violation(AssertionError):
    """The queue broke a promise."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A task row in plain values."""

    state: str
    attempt: int
    failures: int
    losses: int
    asked: bool
    reason: str | None
    result: int | None
    due: float | None
    attempts: tuple[dict[str, Any], ...]

    @property
    def nonce(self) -> str | None:
        return self.attempts[-1]["nonce"] if self.attempts else None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the job allows."""

    retries: int
    losses: int
    lease_s: float


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a task must look like after an event; `ending` is that of its last attempt, None while it runs."""

    event: str
    state: str
    attempt: int
    failures: int
    losses: int
    due: Due
    ending: str | None
    asked: bool | None = False
    """None where the architecture leaves it open: a finished task."""
    reason: str | None = None
    result: int | None = None


def read(row: Row) -> Facts:
    """The plain values of a task row."""
    document = json.loads(row.body)
    return Facts(
        state=document["state"],
        attempt=document.get("attempt", 0),
        failures=document.get("failures", 0),
        losses=document.get("losses", 0),
        asked=document.get("cancel_asked", False),
        reason=document.get("reason"),
        result=document.get("result"),
        due=row.claimable_at,
        attempts=tuple(document.get("attempts", ())),
    )


def claims(old: Facts, limits: Limits, earliest: float, latest: float) -> Iterator[Expected]:
    """`claim(node)`: four rows of the table."""
    if old.due is None or old.due > latest:
        return
    lease = (earliest + limits.lease_s, latest + limits.lease_s)
    if old.state == "pending":
        yield Expected(
            event="claim",
            state="claimed",
            attempt=old.attempt + 1,
            failures=old.failures,
            losses=old.losses,
            due=lease,
            ending=None,
        )
    elif old.asked:
        yield _over(old, "cancelled", "lost", reason="cancelled")
    elif old.losses >= limits.losses:
        yield _over(old, "failed", "lost", reason="lost")
    else:
        yield Expected(
            event="claim",
            state="claimed",
            attempt=old.attempt + 1,
            failures=old.failures,
            losses=old.losses + 1,
            due=lease,
            ending=None,
        )


def renewal(old: Facts, limits: Limits, earliest: float, latest: float) -> Expected:
    """`renew(attempt)` of the current attempt."""
    return Expected(
        event="renew",
        state="claimed",
        attempt=old.attempt,
        failures=old.failures,
        losses=old.losses,
        due=(earliest + limits.lease_s, latest + limits.lease_s),
        ending=None,
        asked=old.asked,
    )


def end(old: Facts, ending: str, reason: str | None, limits: Limits, ended_at: float) -> Expected:
    """`succeed`, `fail`, `release` and `stopped` of the current attempt."""
    if ending == "succeeded":
        return _over(old, "succeeded", "succeeded", result=old.attempt)
    if ending == "failed":
        if old.failures < limits.retries and not old.asked:
            backoff = min(FIRST_BACKOFF_S * 2**old.failures, LONGEST_BACKOFF_S)
            due = (ended_at + backoff, ended_at + backoff)
            return _pending(old, "fail", due, "failed", failures=old.failures + 1)
        return _over(old, "failed", "failed", reason=reason, result=old.attempt, failures=old.failures + 1)
    if old.asked:
        return _over(old, "cancelled", "cancelled", reason="cancelled")
    return _pending(old, "release", (ended_at, ended_at), "released")


def cancel(old: Facts) -> Iterator[Expected]:
    """`cancel()`: at once for a pending task, a flag for a claimed one."""
    if old.state == "pending":
        yield _over(old, "cancelled", _last_ending(old), reason="cancelled")
    elif old.state == "claimed":
        yield Expected(
            event="cancel",
            state="claimed",
            attempt=old.attempt,
            failures=old.failures,
            losses=old.losses,
            due=(old.due or 0.0, old.due or 0.0),
            ending=None,
            asked=True,
        )


def sweep(old: Facts, limits: Limits, latest: float, *, killed: bool) -> Iterator[Expected]:
    """What an agent or a command may do to a paused or killed job: only expired leases end; nothing starts."""
    if killed:
        yield from cancel(old)
    if old.state != "claimed" or old.due is None or old.due > latest:
        return
    if old.asked or killed:
        yield _over(old, "cancelled", "lost", reason="cancelled")
    if not old.asked and old.losses >= limits.losses:
        yield _over(old, "failed", "lost", reason="lost")
    elif not old.asked:
        yield _pending(old, "lose", (old.due, latest), "lost", losses=old.losses + 1)


def again(old: Facts, latest: float, *, reset: bool, succeeded: bool, force: bool) -> Iterator[Expected]:
    """`retry()` and `reset(all)`: failures and losses forgotten, the attempt number kept."""
    allowed = {"failed", "cancelled"} | ({"pending"} if reset else set()) | ({"succeeded"} if succeeded else set())
    if reset and (force or (old.due is not None and old.due <= latest)):
        allowed.add("claimed")
    if old.state in allowed:
        ending = "lost" if old.state == "claimed" else _last_ending(old)
        yield _pending(old, "again", (0.0, latest), ending, failures=0, losses=0)


def mismatches(expected: Expected, new: Facts) -> list[str]:
    """How the row differs from what was expected."""
    wrong = [
        f"{name} is {getattr(new, name)!r}, not {getattr(expected, name)!r}"
        for name in ("state", "attempt", "failures", "losses", "reason", "result")
        if getattr(new, name) != getattr(expected, name)
    ]
    if expected.asked is not None and new.asked != expected.asked:
        wrong.append(f"asked is {new.asked}")
    if (new.due is None) != (expected.due is None):
        wrong.append(f"due is {new.due}")
    elif expected.due is not None and not expected.due[0] - 1e-6 <= (new.due or 0.0) <= expected.due[1] + 1e-6:
        wrong.append(f"due is {new.due}, not between {expected.due}")
    if _last_ending(new) != expected.ending:
        wrong.append(f"the last attempt ended {_last_ending(new)!r}, not {expected.ending!r}")
    return wrong


def require_sound(name: str, row: Row, limits: Limits) -> None:
    """What holds of every task row at every moment. Raises Violation."""
    task = read(row)
    numbers = [attempt["number"] for attempt in task.attempts]
    kept = min(task.attempt, HISTORY_LIMIT)
    promises = {
        "claimable_at is absent if and only if the task is finished": (task.due is None) == (task.state in TERMINAL),
        "the tally says the state": (row.tally or "").split("/")[0] == task.state,
        "history is bounded and without gaps": numbers == list(range(task.attempt - kept + 1, task.attempt + 1)),
        "only the last attempt of a claimed task is unended": [
            a["number"] for a in task.attempts if "ended_at" not in a
        ]
        == ([task.attempt] if task.state == "claimed" else []),
        "no ended attempt lacks its ending": all(("ended_at" in a) == ("ending" in a) for a in task.attempts),
        "a task that succeeded has the current attempt's result": task.state != "succeeded"
        or (task.result == task.attempt and task.attempts[-1]["ending"] == "succeeded"),
        "an unfinished task has no result": task.state in TERMINAL or task.result is None,
        "failures stay within the budget": task.failures <= limits.retries + 1,
        "losses stay within the budget": task.losses <= limits.losses,
        "a pending task is not asked to stop": task.state != "pending" or not task.asked,
        "the row stays small": len(row.body.encode()) <= BODY_LIMIT,
    }
    for promise, kept_it in promises.items():
        if not kept_it:
            raise Violation(f"{promise}: {name} is {row}")


def _over(old: Facts, state: str, ending: str | None, **other: Any) -> Expected:
    fields = {"attempt": old.attempt, "failures": old.failures, "losses": old.losses, **other}
    return Expected(event=state, state=state, due=None, ending=ending, asked=None, **fields)


def _pending(old: Facts, event: str, due: Due, ending: str | None, **other: Any) -> Expected:
    fields = {"attempt": old.attempt, "failures": old.failures, "losses": old.losses, **other}
    return Expected(event=event, state="pending", due=due, ending=ending, **fields)


def _last_ending(task: Facts) -> str | None:
    return task.attempts[-1].get("ending") if task.attempts else None
