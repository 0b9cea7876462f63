"""Outcomes that could not be delivered yet, on disk: an agent that cannot reach the queue finishes later.

A file holds the whole grant and the end of its attempt. What a dead agent of the same pool left here is delivered by
the next one on this machine; a late outcome is accepted unless a newer attempt exists.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kubeq.core import wire
from kubeq.core.model import Ending, JobId, Reason, TaskId
from kubeq.core.transitions import Report
from kubeq.errors import KubeqError
from kubeq.queue.claims import Final, Grant
from kubeq.store.disk import disk_errors

log = logging.getLogger(__name__)


class Spool:
    """The spool of one node, in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, final: Final) -> None:
        """Keep it until `remove`; durable on return. Safe to repeat. Raises BackendError."""
        path = self._path(final)
        with disk_errors("keep an outcome in", path):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_suffix(".new")
            with temporary.open("w", encoding="utf-8") as file:
                file.write(wire.dumps(_encode(final)))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)

    def remove(self, final: Final) -> None:
        """It has been delivered; one that cannot be removed is delivered again some day, which changes nothing."""
        with suppress(OSError):
            self._path(final).unlink(missing_ok=True)

    def load(self) -> Iterator[Final]:
        """Everything undelivered; a file that cannot be read is reported and left."""
        for path in sorted(self._root.glob("*.json")):
            try:
                yield _decode(wire.loads(path.read_text(encoding="utf-8"), f"spooled outcome {path.name}"))
            except (KubeqError, KeyError, ValueError, OSError) as error:
                log.warning("the spooled outcome %s cannot be read: %s", path, error)

    def _path(self, final: Final) -> Path:
        task = final.grant.task.id
        return self._root / f"{task.job}-{task.index}-{final.grant.attempt}.json"


def _encode(final: Final) -> wire.Document:
    grant, report = final.grant, final.report
    return {
        "schema": wire.SCHEMA,
        "job": grant.job.id,
        "job_row": wire.encode_job(grant.job),
        "index": grant.task.id.index,
        "task_row": wire.encode_task(grant.task),
        "claimable_at": grant.task.claimable_at,
        "version": grant.version,
        "ending": final.ending,
        "reason": final.reason,
        "ended_at": report.ended_at,
        "started_at": report.started_at,
        "exit": report.exit and wire.encode_exit(report.exit),
        "usage": report.usage and wire.encode_usage(report.usage),
        "outputs": report.outputs,
        "message": report.message,
    }


def _decode(document: wire.Document) -> Final:
    job = wire.decode_job(JobId(document["job"]), document["job_row"])
    task = wire.decode_task(TaskId(job.id, document["index"]), document["claimable_at"], document["task_row"])
    exit, usage, reason = document["exit"], document["usage"], document["reason"]
    return Final(
        grant=Grant(job=job, task=task, version=document["version"]),
        ending=Ending(document["ending"]),
        reason=Reason(reason) if reason else None,
        report=Report(
            ended_at=document["ended_at"],
            started_at=document["started_at"],
            exit=wire.decode_exit(exit) if exit else None,
            usage=wire.decode_usage(usage) if usage else None,
            outputs=document["outputs"],
            message=document["message"],
        ),
    )
