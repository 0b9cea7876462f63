"""Publishing an attempt: judge how it ended, collect its outputs, store them and what it printed, and write the result
document last.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kubeq.core.model import Ending, Exit, NodeName, Reason, Usage
from kubeq.core.outcome import Stop, Verdict, judge
from kubeq.core.spec import JobSpec
from kubeq.core.transitions import Report
from kubeq.errors import BackendError, IntegrityError, UsageError
from kubeq.queue.claims import Grant
from kubeq.store.outputs import OutputFile, Outputs, ResultDocument, Skipped, result_document
from kubeq_consumer.capture import Capture
from kubeq_consumer.staging import Collected, Staged, collect

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a command: how it ended (None: its output could not be taken down), and why we stopped it."""

    exit: Exit | None
    why: Stop | None
    started_at: float
    ended_at: float
    usage: Usage


def judged(seen: Seen, timeout_s: float | None, memory: int | None) -> tuple[Verdict, Report]:
    """What came of a command with those limits."""
    if seen.exit is None:
        verdict = Verdict(ending=Ending.FAILED, reason=Reason.OUTPUT, message="its output could not be written here")
    else:
        peak = seen.usage.peak_memory_bytes
        verdict = judge(seen.exit, seen.why, timeout_s=timeout_s, memory=memory, peak=peak)
    report = Report(
        started_at=seen.started_at,
        ended_at=max(seen.ended_at, seen.started_at),
        exit=seen.exit,
        usage=seen.usage,
        message=verdict.message,
    )
    return verdict, report


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt whose command has ended, with everything that its result document will say."""

    grant: Grant
    spec: JobSpec
    command: Sequence[str]
    image: str | None
    staged: Staged
    work: Path
    capture: Capture
    node: NodeName
    verdict: Verdict
    report: Report


def publish(outputs: Outputs, ended: Ended, given_up: Callable[[], bool]) -> tuple[Verdict, Report] | None:
    """The verdict and report to record, once every byte they name is stored; None if `given_up` says so after a try.

    A store that cannot be reached is waited for, since the work is done and only its delivery is late. One that refuses
    for good (no space, no right) makes the attempt failed, reason `output`.
    """
    try:
        found = collect(ended.work, ended.staged, ended.spec.results, ended.spec.ignore)
    except OSError as error:
        return _failed(ended, f"{error.filename or ended.work}: {error.strerror or error}")
    pause = 0.5
    while True:
        try:
            _store(outputs, ended, found, ended.verdict)
            return ended.verdict, replace(ended.report, outputs=len(found.files), message=ended.verdict.message)
        except (BackendError, IntegrityError, UsageError) as error:
            if not (isinstance(error, BackendError) and error.transient):
                return _failed(ended, error.message)
            log.warning("the outputs of %s cannot be stored yet: %s", ended.grant.task.id, error)
            if given_up():
                return None
            threading.Event().wait(random.uniform(pause / 2, pause))
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _failed(ended: Ended, why: str) -> tuple[Verdict, Report]:
    message = f"its outputs could not be stored: {why}"
    log.error("task %s: %s", ended.grant.task.id, message)
    verdict = Verdict(ending=Ending.FAILED, reason=Reason.OUTPUT, message=message)
    return verdict, replace(ended.report, outputs=0, message=message)


def _store(outputs: Outputs, ended: Ended, found: Collected, verdict: Verdict) -> None:
    task, grant, report = ended.grant.task, ended.grant, ended.report
    attempt = task.current
    files = [
        OutputFile(path=file.path, open=file.open, digest=file.digest, executable=file.executable)
        for file in found.files
    ]
    document = result_document(
        ResultDocument(
            task=task.id,
            attempt=grant.attempt,
            parameters=dict(zip(ended.spec.columns, task.values, strict=True)),
            command=ended.command,
            state=verdict.ending,
            reason=verdict.reason,
            message=verdict.message,
            exit=report.exit,
            usage=report.usage,
            node=ended.node,
            image_digest=ended.image,
            claimed_at=attempt.claimed_at if attempt else report.ended_at,
            started_at=report.started_at,
            ended_at=report.ended_at,
            files=[file.entry for file in files],
            skipped=[Skipped(path=path, why=why) for path, why in found.skipped],
            stdout_size=ended.capture.path.stat().st_size,
            stdout_dropped=ended.capture.dropped,
        )
    )
    outputs.publish(task.id, grant.attempt, files, ended.capture.path, document)
