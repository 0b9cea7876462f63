"""How the answers of `sub`, `resume`, `addnodes` and `agent` look."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeq.actions.preview import Preview
from kubeq.actions.resume import Resumed
from kubeq.actions.submit import Submitted, Upload
from kubeq.actions.targets import Retargeted
from kubeq.actions.waiting import Tick
from kubeq.cli.shown import count
from kubeq.cli.spending import quote_lines, quote_record
from kubeq.core.model import JobId, NodeName, TaskState
from kubeq.core.quantities import format_size
from kubeq.core.table_rules import listing

SHOWN_FILES = 20
OUTCOMES = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True, slots=True)
class IdView:
    """A job's id, alone: what text and quiet mode print once the job is sealed."""

    id: JobId

    def text(self) -> Iterable[str]:
        return [self.id]

    def json(self) -> Mapping[str, Any]:
        return {"job": self.id}

    def quiet(self) -> Iterable[str]:
        return [self.id]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubView:
    """The one JSON value of `sub`, at its end; `command` is what starts an agent by hand after `--prepare`."""

    submitted: Submitted
    nodes: int
    command: str | None = None
    end: Tick | None = None

    def text(self) -> Iterable[str]:
        return [] if self.command is None else [self.command]

    def json(self) -> Mapping[str, Any]:
        job, upload = self.submitted.job, self.submitted.upload
        value: dict[str, Any] = {
            "job": job.id,
            "name": job.name,
            "created": self.submitted.created,
            "tasks": job.total,
            "uploaded": {"files": upload.files, "bytes": upload.size, "already": upload.already},
            "results_url": job.results_url,
            "nodes_requested": self.nodes,
        }
        if self.command is not None:
            value["agent_command"] = self.command
        if self.end is not None:
            tasks = self.end.tasks
            value["status"] = self.end.status
            value["outcomes"] = {str(state): tasks[state] for state in OUTCOMES if tasks[state]}
        return value

    def quiet(self) -> Iterable[str]:
        return []


@dataclass(frozen=True, slots=True)
class PreviewView:
    """The answer of `sub --dry-run`."""

    preview: Preview

    def text(self) -> Iterable[str]:
        seen = self.preview
        where = "without a container" if seen.image is None else f"in {seen.image}"
        yield f"would submit {count(seen.total, 'task')} as {seen.name}, {where}:"
        for index, words in enumerate(seen.commands, 1):
            yield f"  {index}: {shlex.join(words)}"
        if seen.total > len(seen.commands):
            yield f"  and {seen.total - len(seen.commands):,} more"
        yield f"would send {sent_text(seen.upload)}"
        for file in seen.files[:SHOWN_FILES]:
            there = "" if file.sent else ", fetched by the nodes" if file.remote else ", in the store already"
            yield f"  {file.source} as {file.destination} ({format_size(file.size)}{there})"
        if len(seen.files) > SHOWN_FILES:
            yield f"  and {len(seen.files) - SHOWN_FILES:,} more"
        yield from self._nodes()
        yield f"checked: {', '.join(f'{passed.check} ({passed.thing})' for passed in seen.checks)}"

    def _nodes(self) -> Iterable[str]:
        seen = self.preview
        if seen.quote is not None and seen.quote.count:
            hosts = f", besides {listing(seen.hosts)}" if seen.hosts else ""
            yield f"would start {count(seen.quote.count, 'machine')}{hosts}:"
            yield from (f"  {line}" for line in quote_lines(seen.quote))
        elif seen.quote is not None and seen.hosts and not seen.quote.warm:
            yield f"{listing(seen.hosts)} would run it, and no machine would be started"
        elif seen.quote is not None:
            yield f"{count(seen.quote.warm, 'machine')} of the pool would run it, and no other would be started"
        elif seen.nodes:
            alone = ", for this job alone" if seen.pool is None else ""
            yield f"would start {count(seen.nodes, 'agent')} on {self._place()}{alone}"
        else:
            yield f"what is up on {self._place()} would run it"

    def _place(self) -> str:
        hosts, nodes = self.preview.hosts, self.preview.nodes
        if not hosts:
            return "this machine"
        return ("" if nodes in (0, len(hosts)) else f"{nodes:,} of ") + listing(hosts)

    def json(self) -> Mapping[str, Any]:
        seen = self.preview
        return {
            "dry_run": True,
            "job": None,
            "name": seen.name,
            "tasks": seen.total,
            "image": seen.image,
            "image_digest": seen.pinned,
            "commands": [list(words) for words in seen.commands],
            "uploaded": {"files": seen.upload.files, "bytes": seen.upload.size, "already": seen.upload.already},
            "files": [
                {"source": file.source, "path": file.destination, "size": file.size, "sent": file.sent}
                for file in seen.files
            ],
            "nodes_requested": seen.nodes,
            "machines": seen.quote and quote_record(seen.quote),
            "provider": seen.provider,
            "pool": seen.pool,
            "checks": [{"check": passed.check, "thing": passed.thing} for passed in seen.checks],
        }

    def quiet(self) -> Iterable[str]:
        return []


@dataclass(frozen=True, slots=True)
class ResumedView:
    """The answer of `resume`."""

    resumed: Resumed

    def text(self) -> Iterable[str]:
        seen, job = self.resumed, self.resumed.job
        done = ["its submission is complete"] * seen.completed + ["it is not paused any more"] * seen.unpaused
        done += [f"{count(len(seen.launched), 'node')} started for it"] if seen.launched else []
        yield f"job {job.id} ({job.name}): {', '.join(done) or 'nothing had to be done'}"

    def json(self) -> Mapping[str, Any]:
        seen = self.resumed
        return {
            "job": seen.job.id,
            "completed": seen.completed,
            "unpaused": seen.unpaused,
            "nodes_requested": len(seen.launched),
        }

    def quiet(self) -> Iterable[str]:
        return [self.resumed.job.id]


@dataclass(frozen=True, slots=True)
class LaunchedView:
    """The answer of `addnodes`."""

    names: tuple[NodeName, ...]

    def text(self) -> Iterable[str]:
        return [f"started {count(len(self.names), 'node')}: {', '.join(self.names)}"]

    def json(self) -> Mapping[str, Any]:
        return {"nodes": list(self.names)}

    def quiet(self) -> Iterable[str]:
        return self.names


@dataclass(frozen=True, slots=True)
class RetargetedView:
    """The answer of `addnodes --to`."""

    done: Retargeted

    def text(self) -> Iterable[str]:
        done, job = self.done, self.done.job
        parts = [
            (f"started {count(len(done.started), 'node')}", done.started),
            ("ended before it had begun", done.ended),
            ("idle and leaving", done.leaving),
            ("leaving when what it runs has ended", done.finishing),
        ]
        told = [f"{what}: {', '.join(names)}" for what, names in parts if names]
        told += [done.because] if done.because else []
        yield f"job {job.id} ({job.name}) is to have {count(job.nodes or 0, 'node')}; {'; '.join(told) or 'so it has'}"

    def json(self) -> Mapping[str, Any]:
        done = self.done
        return {
            "job": done.job.id,
            "target": done.job.nodes,
            "before": done.before,
            "nodes": list(done.started),
            "ended": list(done.ended),
            "leaving": list(done.leaving),
            "finishing": list(done.finishing),
            "because": done.because,
        }

    def quiet(self) -> Iterable[str]:
        return [*self.done.started, *self.done.ended, *self.done.leaving, *self.done.finishing]


def sent_text(upload: Upload) -> str:
    """What is sent and what the store has already, in words."""
    sent = f"{count(upload.files, 'file')} ({format_size(upload.size)})" if upload.files else "no file"
    return f"{sent}; {count(upload.already, 'file')} already in the store" if upload.files or upload.already else sent
