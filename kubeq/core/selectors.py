"""Selectors: how a user names jobs and tasks. Text against known names; asking the queue for them is not done here.

A JOB is `LAST`, an id, a name (the newest job of that name), the beginning of an id if only one has it, or a glob
over ids and names; an exact id goes before a name, and a name before the beginning of another job's id. A TASK is
`JOB/17` or `JOB/1-10,20`; tasks are numbered from 1.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kubeq.core.model import JobId, Reason, Task, TaskState
from kubeq.core.table_rules import MOST_TASKS
from kubeq.errors import Conflict, NotFound, UsageError

LAST = "LAST"
SHOWN = 10
_PART = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?", re.ASCII)
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class JobRef:
    """What is known of a job before its row is read in full."""

    id: JobId
    name: str
    submitted_at: float


@dataclass(frozen=True, slots=True)
class Indexes:
    """Task indexes as sorted ranges that neither touch nor overlap. Without ranges it stands for all tasks."""

    ranges: tuple[range, ...] = ()

    @property
    def all(self) -> bool:
        return not self.ranges

    def __contains__(self, index: int) -> bool:
        return self.all or any(index in chosen for chosen in self.ranges)

    def of(self, job: str, total: int) -> Iterator[int]:
        """The indexes that are meant in a job of `total` tasks. Raises NotFound for one that it does not have."""
        if self.ranges and self.ranges[-1][-1] > total:
            raise NotFound(
                f"job {job} has no task {max(total + 1, self.ranges[-1][0])}", hint=f"its tasks are 1 to {total}"
            )
        for chosen in self.ranges or (range(1, total + 1),):
            yield from chosen


@dataclass(frozen=True, slots=True)
class TaskSelector:
    """A job's text as typed, and which of its tasks."""

    job: str
    indexes: Indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What `--failed`, `--pending`, `--running`, `--exit` and `--reason` leave over.

    Values of one kind are alternatives; the kinds must all agree. A kind without values lets everything through.
    """

    states: frozenset[TaskState] = frozenset()
    exit_codes: frozenset[int] = frozenset()
    reasons: frozenset[Reason] = frozenset()

    @property
    def empty(self) -> bool:
        return not (self.states or self.exit_codes or self.reasons)

    def admits(self, task: Task) -> bool:
        """Whether a task passes. A task without an exit code has none of those asked for."""
        if self.states and task.state not in self.states:
            return False
        if self.reasons and task.reason not in self.reasons:
            return False
        if not self.exit_codes:
            return True
        exit = task.current.exit if task.current else None
        return exit is not None and exit.code in self.exit_codes


def parse_task_selector(text: str) -> TaskSelector:
    """The job and the indexes of `JOB`, `JOB/17` or `JOB/1-10,20`. Raises UsageError."""
    job, slash, tail = text.partition("/")
    if not job:
        raise UsageError(f"{text!r} names no job", hint="write JOB or JOB/17, where JOB is an id, a name or LAST")
    return TaskSelector(job, parse_indexes(tail, text) if slash else Indexes())


def parse_indexes(tail: str, text: str) -> Indexes:
    """The indexes of `1-10,20`; `text` is the whole selector, for the message. Raises UsageError."""
    chosen: list[range] = []
    for part in tail.split(","):
        match = _PART.fullmatch(part)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if match is None or last > MOST_TASKS:
            raise UsageError(
                f"{part!r} in {text!r} is not a task number or a range of them",
                hint=f"write JOB/17 or JOB/1-10,20, with whole numbers from 1 to {MOST_TASKS:,}",
            )
        if last < first:
            raise UsageError(f"the range {part!r} in {text!r} runs backwards", hint=f"write {last}-{first}")
        chosen.append(range(first, last + 1))
    return Indexes(_merged(chosen))


def is_glob(text: str) -> bool:
    """Whether the text may mean several jobs."""
    return _GLOB.search(text) is not None


def match_jobs(text: str, jobs: Sequence[JobRef], last: JobId | None) -> list[JobRef]:
    """The jobs that `text` means, newest first; several only for a glob.

    Raises NotFound when there is none, Conflict when the beginning of an id fits several.
    """
    if text == LAST:
        return [_last(jobs, last)]
    newest_first = sorted(jobs, key=lambda job: (job.submitted_at, job.id), reverse=True)
    if is_glob(text):
        return _globbed(text, newest_first)
    for job in newest_first:
        if job.id == text:
            return [job]
    for job in newest_first:
        if job.name == text:
            return [job]
    begun = [job for job in newest_first if job.id.startswith(text)] if text else []
    if len(begun) > 1:
        raise Conflict(
            f"{text!r} is the beginning of {len(begun)} job ids: {_candidates(begun)}", hint="type more of the id"
        )
    if not begun:
        raise NotFound(f"there is no job {text!r}", hint=_nearest(text, newest_first))
    return begun


def match_one_job(text: str, jobs: Sequence[JobRef], last: JobId | None) -> JobRef:
    """The one job that `text` means. Raises NotFound, and Conflict when a glob matches several."""
    found = match_jobs(text, jobs, last)
    if len(found) > 1:
        raise Conflict(
            f"{text!r} matches {len(found)} jobs, and one is needed: {_candidates(found)}", hint="name one of them"
        )
    return found[0]


def _last(jobs: Sequence[JobRef], last: JobId | None) -> JobRef:
    if last is None:
        raise NotFound("there is no LAST job: nothing was submitted from this machine yet", hint="kubeq status")
    for job in jobs:
        if job.id == last:
            return job
    raise NotFound(f"the LAST job, {last}, is not there any more", hint="kubeq status lists the jobs there are")


def _globbed(text: str, jobs: Sequence[JobRef]) -> list[JobRef]:
    found = [job for job in jobs if fnmatch.fnmatchcase(job.id, text) or fnmatch.fnmatchcase(job.name, text)]
    if not found:
        raise NotFound(f"no job matches {text!r}", hint="kubeq status lists the jobs there are")
    return found


def _nearest(text: str, jobs: Sequence[JobRef]) -> str:
    import difflib

    if text.upper() == LAST:
        return f"the job submitted last is {LAST}, in capitals"
    names = list(dict.fromkeys(name for job in jobs for name in (job.name, str(job.id))))
    near = difflib.get_close_matches(text, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "kubeq status lists the jobs there are"


def _candidates(jobs: Sequence[JobRef]) -> str:
    shown = ", ".join(f"{job.id} ({job.name})" for job in jobs[:SHOWN])
    return shown if len(jobs) <= SHOWN else f"{shown} and {len(jobs) - SHOWN:,} more"


def _merged(chosen: Sequence[range]) -> tuple[range, ...]:
    merged: list[range] = []
    for part in sorted(chosen, key=lambda part: (part.start, part.stop)):
        if merged and part.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, part.stop))
        else:
            merged.append(part)
    return tuple(merged)
