"""Tasks and their attempts, exits and usages."""

from __future__ import annotations

from kubeq.core.digest import Digest
from kubeq.core.model import Attempt, Ending, Exit, NodeName, Reason, Task, TaskId, TaskState, Usage
from kubeq.core.transitions import Report
from kubeq.core.wire import checks
from kubeq.core.wire.base import SCHEMA, Document, decode_resources, dumps, encode_resources, optional, read, sparse

LONGEST_MESSAGE = 20_000
"""Characters that are kept of a message or of an engine's words."""


def pending_body(values_json: str, inputs: Digest | None = None) -> str:
    """The row body of a task nobody has touched yet, written without building a Task (a submission makes millions)."""
    staged = "" if inputs is None else f',"inputs":"{inputs}"'
    return f'{{"schema":{SCHEMA},"state":"pending","values":{values_json}{staged}}}'


def encode_task(task: Task) -> str:
    """The row body of a task. Its id is the row's key and `claimable_at` a column, so neither is in it."""
    return dumps(
        sparse(
            {
                "schema": SCHEMA,
                "state": task.state.value,
                "values": list(task.values),
                "inputs": task.inputs and str(task.inputs),
                "resources": task.resources and encode_resources(task.resources),
                "reason": task.reason,
                "attempt": task.attempt or None,
                "failures": task.failures or None,
                "losses": task.losses or None,
                "cancel_asked": task.cancel_asked or None,
                "result": task.result,
                "outputs": task.outputs or None,
                "attempts": [encode_attempt(attempt) for attempt in task.attempts] or None,
                "forgotten_attempts": task.forgotten_attempts or None,
            }
        )
    )


def decode_task(id: TaskId, claimable_at: float | None, body: str) -> Task:
    """The task of a row."""

    def build(document: Document) -> Task:
        inputs, resources = document.get("inputs"), document.get("resources")
        return Task(
            id=id,
            values=tuple(document.get("values", ())),
            inputs=Digest.parse(inputs) if inputs else None,
            resources=decode_resources(resources) if resources else None,
            state=TaskState(document["state"]),
            reason=optional(Reason, document.get("reason")),
            claimable_at=claimable_at,
            attempt=document.get("attempt", 0),
            failures=document.get("failures", 0),
            losses=document.get("losses", 0),
            cancel_asked=document.get("cancel_asked", False),
            result=document.get("result"),
            outputs=document.get("outputs", 0),
            attempts=tuple(decode_attempt(attempt) for attempt in document.get("attempts", ())),
            forgotten_attempts=document.get("forgotten_attempts", 0),
        )

    return read(f"task {id}", body, build)


def encode_attempt(attempt: Attempt) -> Document:
    """An attempt as it stands in rows and in result documents."""
    return sparse(
        {
            "number": attempt.number,
            "node": attempt.node,
            "nonce": attempt.nonce,
            "claimed_at": attempt.claimed_at,
            "started_at": attempt.started_at,
            "ended_at": attempt.ended_at,
            "ending": attempt.ending,
            "reason": attempt.reason,
            "exit": attempt.exit and encode_exit(attempt.exit),
            "usage": attempt.usage and encode_usage(attempt.usage),
            "message": _cut(attempt.message),
        }
    )


def decode_attempt(document: Document) -> Attempt:
    """An attempt from a row or a result document."""
    exit, usage = document.get("exit"), document.get("usage")
    return Attempt(
        number=document["number"],
        node=NodeName(document["node"]),
        nonce=document["nonce"],
        claimed_at=document["claimed_at"],
        started_at=document.get("started_at"),
        ended_at=document.get("ended_at"),
        ending=optional(Ending, document.get("ending")),
        reason=optional(Reason, document.get("reason")),
        exit=None if exit is None else decode_exit(exit),
        usage=None if usage is None else decode_usage(usage),
        message=document.get("message"),
    )


def encode_exit(exit: Exit) -> Document:
    """An exit; absent keys are defaults."""
    return sparse(
        {
            "code": exit.code,
            "signal": exit.signal,
            "out_of_memory": exit.out_of_memory or None,
            "never_started": _cut(exit.never_started),
            "vanished": exit.vanished or None,
        }
    )


def decode_exit(document: Document) -> Exit:
    """The exit that `encode_exit` wrote. Raises ValueError for anything else."""
    never_started = document.get("never_started")
    return Exit(
        code=_whole(document.get("code")),
        signal=_whole(document.get("signal")),
        out_of_memory=checks.flag(document.get("out_of_memory", False)),
        never_started=None if never_started is None else checks.text(never_started, LONGEST_MESSAGE),
        vanished=checks.flag(document.get("vanished", False)),
    )


def encode_usage(usage: Usage) -> Document:
    """A usage; absent keys could not be measured."""
    return sparse(
        {
            "wall_s": usage.wall_s,
            "cpu_s": usage.cpu_s,
            "peak_memory_bytes": usage.peak_memory_bytes,
            "read_bytes": usage.read_bytes,
            "written_bytes": usage.written_bytes,
        }
    )


def decode_usage(document: Document) -> Usage:
    """The usage that `encode_usage` wrote. Raises ValueError for anything else."""
    return Usage(
        wall_s=_number(document.get("wall_s")),
        cpu_s=_number(document.get("cpu_s")),
        peak_memory_bytes=_whole(document.get("peak_memory_bytes")),
        read_bytes=_whole(document.get("read_bytes")),
        written_bytes=_whole(document.get("written_bytes")),
    )


def encode_report(report: Report) -> Document:
    """What an agent says at the end of an attempt; every key is there."""
    return {
        "ended_at": report.ended_at,
        "started_at": report.started_at,
        "exit": report.exit and encode_exit(report.exit),
        "usage": report.usage and encode_usage(report.usage),
        "outputs": report.outputs,
        "message": _cut(report.message),
    }


def decode_report(document: Document) -> Report:
    """The report that `encode_report` wrote. Raises ValueError for anything else."""
    exit, usage, message = document["exit"], document["usage"], document["message"]
    return Report(
        ended_at=checks.number(document["ended_at"]),
        started_at=_number(document["started_at"]),
        exit=None if exit is None else decode_exit(exit),
        usage=None if usage is None else decode_usage(usage),
        outputs=checks.whole(document["outputs"]),
        message=None if message is None else checks.text(message, LONGEST_MESSAGE),
    )


def _cut(text: str | None) -> str | None:
    """What is kept of a text that comes from errors and engines: not more than may be read, as valid Unicode."""
    return None if text is None else text[:LONGEST_MESSAGE].encode(errors="backslashreplace").decode()[:LONGEST_MESSAGE]


def _whole(value: object) -> int | None:
    return None if value is None else checks.whole(value)


def _number(value: object) -> float | None:
    return None if value is None else checks.number(value)
