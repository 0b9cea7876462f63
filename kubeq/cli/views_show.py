"""How the answer of `show` looks: everything that is known of a job, or of one task."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeq.actions.facts import JobFacts, TaskFacts
from kubeq.actions.status import JobSummary
from kubeq.cli.output import columns
from kubeq.cli.shown import count, iso, moment, one_line, pairs
from kubeq.cli.views_jobs import counts_text, job_record
from kubeq.cli.views_tasks import outcome_text, reason_text, task_record
from kubeq.core.manifest import Entry, Manifest
from kubeq.core.model import Attempt, Job, Node
from kubeq.core.quantities import format_duration, format_size
from kubeq.core.requests import Requests
from kubeq.core.wire import encode_requests, encode_resources, encode_usage
from kubeq.metering import added
from kubeq.store.sources import shown

SHOWN_FILES = 20
ATTEMPTS = ("attempt", "node", "claimed", "ran", "cpu", "memory", "ended", "message")


@dataclass(frozen=True, slots=True)
class JobShowView:
    """A job: how it stands, what was asked for, what its tasks are given."""

    summary: JobSummary
    facts: JobFacts
    inputs: Manifest
    skipped: int | None
    nodes: Sequence[Node]

    def text(self) -> Iterable[str]:
        job, spec = self.facts.job, self.facts.spec
        yield f"{job.name} ({job.id}): {self.summary.status}"
        lines = [
            ("tasks", f"{job.total:,}: {counts_text(self.summary.outcomes)}"),
            ("command", shlex.join(spec.command) + (" (by a shell)" if spec.shell else "")),
            ("parameters", ", ".join(spec.columns)),
            ("image", spec.image or "none: the command runs on the node itself"),
            ("pinned to", self.facts.image_digest or ""),
            ("entrypoint", "" if spec.entrypoint is None else shlex.join(spec.entrypoint) or "the image's"),
            ("directory", "" if spec.directory == "." else spec.directory),
            ("environment", ", ".join(name for name, _ in spec.environment)),
            ("user", spec.user or ""),
            ("network", spec.network),
            ("mounts", "\n".join(f"{m.source}:{m.target}{':ro' * m.read_only}" for m in spec.mounts)),
            ("resources", str(job.resources)),
            ("time limit", "" if spec.timeout_s is None else format_duration(spec.timeout_s)),
            ("keeps", ", ".join(spec.results) or "every new or changed file"),
            ("ignores", ", ".join(spec.ignore)),
            ("inputs", files_text(self.inputs)),
            ("not stored", f"{count(self.skipped, 'file')}; kubeq list {job.id} says whose" if self.skipped else ""),
            ("retries", str(job.policy.retries)),
            ("lease", format_duration(job.policy.lease_s)),
            ("pool", job.pool),
            ("nodes", f"{job.nodes:,} at most" if job.nodes else ""),
            ("submitted", f"{moment(job.submitted_at)} by {job.user} on {job.host}"),
            ("ended", "" if job.closed_at is None else moment(job.closed_at)),
            ("because", self.summary.because or ""),
            ("results", self.summary.results_url),
            ("requests", "\n".join(_requests_lines(job, self.nodes))),
        ]
        yield from pairs([(name, value) for name, value in lines if value])

    def json(self) -> Mapping[str, Any]:
        job = self.facts.job
        return {
            "job": job_record(self.summary)
            | {
                "pool": job.pool,
                "target": job.nodes,
                "user": job.user,
                "host": job.host,
                "sealed_at": iso(job.sealed_at),
                "paused": job.paused,
                "killed": job.cancelled,
                "policy": {
                    "retries": job.policy.retries,
                    "loss_limit": job.policy.loss_limit,
                    "strikes": job.policy.strikes,
                    "lease_s": job.policy.lease_s,
                    "exclusive": job.policy.exclusive,
                },
            },
            "spec": _spec_record(self.facts),
            "inputs": input_records(self.inputs),
            "skipped": self.skipped,
            "requests": {
                "submission": job.requests and encode_requests(job.requests),
                "nodes": [
                    {"node": node.name, **encode_requests(node.requests)} for node in self.nodes if node.requests
                ],
            },
        }

    def quiet(self) -> Iterable[str]:
        return [self.facts.job.id]


@dataclass(frozen=True, slots=True)
class TaskShowView:
    """A task: what it runs, what it was given, every attempt, what it stored."""

    name: str
    facts: TaskFacts
    inputs: Manifest
    result: Mapping[str, Any] | None

    def text(self) -> Iterable[str]:
        task = self.facts.task
        yield f"{self.name}/{task.id.index} ({task.id}): {outcome_text(task)}"
        stored = [] if self.result is None else [(row["path"], row["size"]) for row in self.result["files"]]
        skipped = [] if self.result is None else [f"{row['path']} ({row['why']})" for row in self.result["skipped"]]
        lines = [
            ("command", shlex.join(self.facts.command)),
            ("parameters", "  ".join(f"{name}={one_line(value)}" for name, value in self.facts.parameters.items())),
            ("image", self.facts.image_digest or ""),
            ("resources", "" if task.resources is None else str(task.resources)),
            ("inputs", files_text(self.inputs)),
            ("because", self.facts.because or ""),
            ("failures", f"{task.failures} failed, {task.losses} lost" if task.failures or task.losses else ""),
            ("stored", listed([f"{path} ({format_size(size)})" for path, size in stored])),
            ("not stored", listed(skipped)),
            ("results", self.facts.results_url or ""),
        ]
        yield from pairs([(name, value) for name, value in lines if value])
        if task.attempts:
            yield ""
            yield from columns(ATTEMPTS, [_attempt_line(attempt) for attempt in task.attempts])
        if task.forgotten_attempts:
            yield f"({task.forgotten_attempts} earlier attempts are not on record any more)"

    def json(self) -> Mapping[str, Any]:
        task = self.facts.task
        own = None if task.resources is None else encode_resources(task.resources)
        return {
            "task": task_record(self.facts)
            | {
                "cancel_asked": task.cancel_asked,
                "claimable_at": iso(task.claimable_at),
                "resources": own,
                "result_attempt": task.result,
                "attempts": [_attempt_record(attempt) for attempt in task.attempts],
                "forgotten_attempts": task.forgotten_attempts,
            },
            "inputs": input_records(self.inputs),
            "files": None if self.result is None else self.result["files"],
            "skipped": None if self.result is None else self.result["skipped"],
        }

    def quiet(self) -> Iterable[str]:
        return [str(self.facts.task.id)]


def _spec_record(facts: JobFacts) -> Mapping[str, Any]:
    job, spec = facts.job, facts.spec
    return {
        "digest": str(job.spec),
        "command": list(spec.command),
        "parameters": list(spec.columns),
        "shell": spec.shell,
        "image": spec.image,
        "image_digest": facts.image_digest,
        "entrypoint": None if spec.entrypoint is None else list(spec.entrypoint),
        "directory": spec.directory,
        "environment": [name for name, _ in spec.environment],
        "user": spec.user,
        "network": spec.network,
        "shm_size": spec.shm_size,
        "mounts": [{"source": m.source, "target": m.target, "read_only": m.read_only} for m in spec.mounts],
        "results": list(spec.results),
        "ignore": list(spec.ignore),
        "resources": encode_resources(job.resources),
        "timeout_s": spec.timeout_s,
        "log_limit": spec.log_limit,
    }


def files_text(manifest: Manifest) -> str:
    """Files with their sizes, one a line, and where those are that are not in the store."""
    lines = [f"{entry.path} ({format_size(entry.digest.size)})" for entry in manifest.entries]
    lines += [
        f"{remote.path} ({format_size(remote.size)}, from {shown(remote.url)}, pinned as {remote.pin})"
        for remote in manifest.remotes
    ]
    return listed(lines)


def input_records(manifest: Manifest) -> list[dict[str, Any]]:
    """The inputs in JSON; of what is not in the store no digest is known."""
    blobs = [{**entry_record(entry), "url": None, "pin": None} for entry in manifest.entries]
    remotes = [
        {
            "path": remote.path,
            "sha256": None,
            "size": remote.size,
            "executable": remote.executable,
            "url": shown(remote.url),
            "pin": remote.pin,
        }
        for remote in manifest.remotes
    ]
    return blobs + remotes


def listed(lines: Sequence[str]) -> str:
    """Lines, at most `SHOWN_FILES` of them."""
    more = len(lines) - SHOWN_FILES
    return "\n".join([*lines[:SHOWN_FILES], *([f"and {more:,} more"] if more > 0 else [])])


def entry_record(entry: Entry) -> dict[str, Any]:
    """A staged file as JSON has it."""
    return {
        "path": entry.path,
        "sha256": entry.digest.sha256,
        "size": entry.digest.size,
        "executable": entry.executable,
    }


def _requests_lines(job: Job, nodes: Sequence[Node]) -> Iterable[str]:
    """What the submission and the nodes have asked of queue and store, where that is known."""
    if job.requests is not None:
        yield f"by the submission: {job.requests}"
    told = [node.requests for node in nodes if node.requests is not None]
    if told:
        total = Requests(queue=added(*(each.queue for each in told)), store=added(*(each.store for each in told)))
        yield f"by {count(len(told), 'node')}: {total}"


def _attempt_line(attempt: Attempt) -> Sequence[object]:
    usage, message = attempt.usage, attempt.message or ""
    ended = str(attempt.ending) if attempt.ending else "-"
    if attempt.reason is not None and str(attempt.reason) != ended:
        ended += f": {reason_text(attempt.reason, attempt)}"
    return (
        attempt.number,
        attempt.node,
        moment(attempt.claimed_at),
        "-" if usage is None or usage.wall_s is None else format_duration(usage.wall_s),
        "-" if usage is None or usage.cpu_s is None else format_duration(usage.cpu_s),
        "-" if usage is None or usage.peak_memory_bytes is None else format_size(usage.peak_memory_bytes),
        ended,
        "" if message in ended else one_line(message, 100),
    )


def _attempt_record(attempt: Attempt) -> dict[str, Any]:
    exit = attempt.exit
    return {
        "number": attempt.number,
        "node": attempt.node,
        "claimed_at": iso(attempt.claimed_at),
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "ending": attempt.ending,
        "reason": attempt.reason,
        "exit": exit and {"code": exit.code, "signal": exit.signal, "out_of_memory": exit.out_of_memory},
        "usage": attempt.usage and encode_usage(attempt.usage),
        "message": attempt.message,
    }
