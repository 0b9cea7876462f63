"""How the answers of `kill`, `pause`, `reset` and `clean` look: what was changed, and what was left alone and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeq.actions.changing import Changes
from kubeq.actions.cleaning import CleanPlan
from kubeq.cli.shown import count
from kubeq.core.quantities import format_size

SHOWN = 5
"""So many things that were left alone are named; the rest is a count."""


@dataclass(frozen=True, slots=True)
class ChangesView:
    """`done` is what was done to the tasks: killed, reset."""

    done: str
    changes: Changes

    def text(self) -> Iterable[str]:
        by_job = Counter(id.partition("/")[0] for id in self.changes.changed)
        for job in self.changes.jobs:
            yield f"{self.done} {count(by_job[job.id], 'task')} of {job.name} ({job.id})"
        if not self.changes.jobs:
            yield f"{self.done} nothing"
        yield from left_alone(self.changes.unchanged)

    def json(self) -> Mapping[str, Any]:
        return changes_record(self.changes.changed, self.changes.unchanged)

    def quiet(self) -> Iterable[str]:
        return self.changes.changed


@dataclass(frozen=True, slots=True)
class PausedView:
    """The answer of `pause`."""

    changes: Changes

    def text(self) -> Iterable[str]:
        for job in self.changes.jobs:
            yield f"paused {job.name} ({job.id}); kubeq resume {job.id} goes on"
        if not self.changes.jobs:
            yield "paused nothing"
        yield from left_alone(self.changes.unchanged)

    def json(self) -> Mapping[str, Any]:
        return changes_record(self.changes.changed, self.changes.unchanged)

    def quiet(self) -> Iterable[str]:
        return self.changes.changed


@dataclass(frozen=True, slots=True)
class CleanView:
    """What `clean` forgot, or with `only` would forget."""

    plan: CleanPlan
    results: bool = False
    only: bool = False

    def text(self) -> Iterable[str]:
        word = "would remove" if self.only else "removed"
        for summary in self.plan.jobs:
            what = "with its results" if self.results else f"its results stay in {summary.results_url}"
            yield f"{word} {summary.job.name} ({summary.job.id}), {count(summary.job.total, 'task')}; {what}"
        if not self.plan.jobs:
            yield f"{word} nothing"
        yield from left_alone([(job.id, f"{job.name} ({job.id}): {why}") for job, why in self.plan.kept])

    def json(self) -> Mapping[str, Any]:
        changed = [summary.job.id for summary in self.plan.jobs]
        return changes_record(changed, [(job.id, why) for job, why in self.plan.kept]) | {"dry_run": self.only}

    def quiet(self) -> Iterable[str]:
        return [summary.job.id for summary in self.plan.jobs]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsView:
    """What `clean --blobs` came to: blobs that no job refers to."""

    removed: int
    removed_bytes: int
    waiting: int
    waiting_bytes: int
    only: bool = False

    def text(self) -> Iterable[str]:
        word = "would remove" if self.only else "removed"
        yield f"{word} {count(self.removed, 'blob')} ({format_size(self.removed_bytes)}) that no job refers to"
        if self.waiting:
            size = format_size(self.waiting_bytes)
            yield f"{count(self.waiting, 'blob')} more ({size}) will go after 7 days without use; with --force now"

    def json(self) -> Mapping[str, Any]:
        return {
            "removed": {"blobs": self.removed, "bytes": self.removed_bytes},
            "waiting": {"blobs": self.waiting, "bytes": self.waiting_bytes},
            "dry_run": self.only,
        }

    def quiet(self) -> Iterable[str]:
        return []


def left_alone(unchanged: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Lines about what was left alone; equal sentences once."""
    why = list(dict.fromkeys(why for _, why in unchanged))
    for sentence in why[:SHOWN]:
        yield f"left alone: {sentence}"
    if len(why) > SHOWN:
        yield f"and {len(why) - SHOWN:,} more were left alone"


def changes_record(changed: Iterable[str], unchanged: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The ids on both sides, and why the second ones were left alone."""
    left = list(unchanged)
    return {"changed": list(changed), "unchanged": [id for id, _ in left], "because": dict(left)}
