"""What an agent holds, asks for and tells, to JSON and back: for its spool and for the way through a relay.

The records inside are `core.wire`'s. What a node sends is read with checks: each function that decodes such a thing
raises ValueError, KeyError or TypeError for anything but what its twin has written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kubeq.core import wire
from kubeq.core.model import Ending, JobId, NodeOrder, Reason, TaskId
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.core.wire import Document, checks
from kubeq.core.wire.base import encode_resources
from kubeq.queue.claims import Claimed, Final, Grant, Room

LONGEST_ID = 200
"""Characters of a job's id or of a claim's mark: far more than we ever make."""
LARGEST_INDEX = 10**10
"""Task numbers have ten digits in a row's name."""
_REASONS: Mapping[Ending, Collection[Reason | None]] = {
    Ending.SUCCEEDED: (None,),
    Ending.FAILED: frozenset(Reason) - {Reason.LOST, Reason.CANCELLED},
    Ending.RELEASED: (None,),
    Ending.CANCELLED: (None, Reason.CANCELLED),
}
"""How an agent may say that an attempt ended; that one was lost, others say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """How an agent names an attempt that it holds. No more than this is believed of what it sends.

    `cancel_asked`: it knows already that it is to stop the command.
    """

    task: TaskId
    attempt: int
    nonce: str
    cancel_asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of an attempt that the agent names: a Final without the grant."""

    hold: Hold
    ending: Ending
    reason: Reason | None
    report: Report


def hold_of(grant: Grant) -> Hold:
    """The name of a granted attempt."""
    assert grant.task.current is not None, "a grant has an attempt"
    task = grant.task
    return Hold(
        task=task.id, attempt=grant.attempt, nonce=grant.task.current.nonce, cancel_asked=grant.task.cancel_asked
    )


def encode_hold(hold: Hold) -> Document:
    return {
        "job": hold.task.job,
        "index": hold.task.index,
        "attempt": hold.attempt,
        "nonce": hold.nonce,
        "cancel_asked": hold.cancel_asked,
    }


def decode_hold(document: Document) -> Hold:
    return Hold(
        task=TaskId(
            JobId(checks.text(document["job"], LONGEST_ID)),
            checks.whole(document["index"], least=1, most=LARGEST_INDEX - 1),
        ),
        attempt=checks.whole(document["attempt"], least=1),
        nonce=checks.text(document["nonce"], LONGEST_ID),
        cancel_asked=checks.flag(document["cancel_asked"]),
    )


def encode_grant(grant: Grant) -> Document:
    return {
        "job": grant.job.id,
        "job_row": wire.encode_job(grant.job),
        "index": grant.task.id.index,
        "task_row": wire.encode_task(grant.task),
        "claimable_at": grant.task.claimable_at,
        "version": grant.version,
    }


def decode_grant(document: Document) -> Grant:
    job = wire.decode_job(JobId(document["job"]), document["job_row"])
    task = wire.decode_task(TaskId(job.id, document["index"]), document["claimable_at"], document["task_row"])
    return Grant(job=job, task=task, version=document["version"])


def encode_final(final: Final) -> Document:
    """A final with its whole grant, as it lies in a spool."""
    return {
        "schema": wire.SCHEMA,
        **encode_grant(final.grant),
        "ending": final.ending,
        "reason": final.reason,
        **wire.encode_report(final.report),
    }


def decode_final(document: Document) -> Final:
    reason = document["reason"]
    return Final(
        grant=decode_grant(document),
        ending=Ending(document["ending"]),
        reason=Reason(reason) if reason else None,
        report=wire.decode_report(document),
    )


def encode_end(end: End) -> Document:
    return {
        "hold": encode_hold(end.hold),
        "ending": end.ending,
        "reason": end.reason,
        "report": wire.encode_report(end.report),
    }


def decode_end(document: Document) -> End:
    """The end as it was told."""
    ending, reason = Ending(document["ending"]), document["reason"]
    reason = None if reason is None else Reason(reason)
    if reason not in _REASONS.get(ending, ()):
        raise ValueError(f"no agent ends an attempt as {ending} with the reason {reason}")
    return End(
        hold=decode_hold(document["hold"]), ending=ending, reason=reason, report=wire.decode_report(document["report"])
    )


def encode_room(room: Room) -> Document:
    return {
        "free": encode_resources(room.free),
        "total": encode_resources(room.total),
        "starts": room.starts,
        "ahead": room.ahead,
        "pool_slots": room.pool_slots,
    }


def decode_room(document: Document) -> Room:
    return Room(
        free=decode_amount(document["free"]),
        total=decode_amount(document["total"]),
        starts=checks.whole(document["starts"]),
        ahead=checks.whole(document["ahead"]),
        pool_slots=checks.whole(document["pool_slots"]),
    )


def encode_claimed(claimed: Claimed) -> Document:
    return {
        "grants": [encode_grant(grant) for grant in claimed.grants],
        "too_big": [[task.job, task.index] for task in claimed.too_big],
        "open_jobs": claimed.open_jobs,
    }


def decode_claimed(document: Document) -> Claimed:
    return Claimed(
        grants=tuple(decode_grant(grant) for grant in document["grants"]),
        too_big=tuple(TaskId(JobId(job), index) for job, index in document["too_big"]),
        open_jobs=document["open_jobs"],
    )


def encode_grants(grants: Sequence[Grant | None]) -> list[Document | None]:
    """Grants, None where there is none any more."""
    return [None if grant is None else encode_grant(grant) for grant in grants]


def decode_grants(documents: Sequence[Document | None]) -> list[Grant | None]:
    return [None if document is None else decode_grant(document) for document in documents]


def decode_order(value: str | None) -> NodeOrder | None:
    return None if value is None else NodeOrder(value)


def decode_amount(document: Document) -> Resources:
    """An amount of resources, none of it negative or endless."""
    memory = document["memory"]
    return Resources(
        cpu=checks.number(document["cpu"]),
        memory=None if memory is None else checks.whole(memory),
        gpus=checks.whole(document.get("gpus", 0)),
    )
