"""From what a user types (`LAST`, `demo/1-10`, `--failed --where 'x > 1'`) to jobs and tasks.

The grammar of selectors is in `core.selectors`, that of conditions in `where`; here the queue is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from kubeq.actions.backplane import check_store_of
from kubeq.actions.journal import Journal
from kubeq.actions.session import Session
from kubeq.actions.where import Where, parse_where
from kubeq.core.model import Job, JobId, Task
from kubeq.core.selectors import (
    LAST,
    Filters,
    Indexes,
    JobRef,
    is_glob,
    match_jobs,
    match_one_job,
    parse_task_selector,
)
from kubeq.errors import NotFound, UsageError
from kubeq.queue.rows import JobEntry

PAGE = 1000
"""Tasks read at a time when they are named by number."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A job, and which of its tasks; without ranges the indexes stand for the whole job."""

    job: Job
    indexes: Indexes

    @property
    def whole(self) -> bool:
        return self.indexes.all


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Filters and a condition as typed; the condition is understood once the job's columns are known."""

    filters: Filters = field(default_factory=Filters)
    where: str | None = None

    @property
    def empty(self) -> bool:
        return self.filters.empty and self.where is None

    def condition(self, job: Job) -> Where | None:
        """The condition for tasks of that job. Raises UsageError naming what it does not know."""
        return None if self.where is None else parse_where(self.where, job.columns)


EVERYTHING = Choice()


def known_jobs(session: Session) -> list[JobRef]:
    """Every job of the queue, without reading the job rows."""
    return _refs(session.queue.entries())


def find_jobs(session: Session, texts: Sequence[str]) -> list[Job]:
    """The jobs that the texts mean, each once, newest first within a text; every job there is if there are no texts."""
    entries = session.queue.entries()
    for text in texts:
        _refuse_tasks(text)
    if texts:
        last = _last(session, texts, entries)
        with _newer_ones_told(session, texts):
            ids = [ref.id for text in texts for ref in match_jobs(text, _refs(entries), last)]
        return session.queue.jobs(_entries_of(entries, ids), strict=not any(map(is_glob, texts)))
    return session.queue.jobs(sorted(entries, key=lambda entry: (entry.submitted_at, entry.id), reverse=True))


def find_job(session: Session, text: str) -> Job:
    """The one job that the text means. Raises NotFound or Conflict."""
    _refuse_tasks(text)
    return find_one(session, text).job


def find_one(session: Session, text: str) -> Chosen:
    """One job and which of its tasks. Raises NotFound, and Conflict when the text matches several jobs."""
    selector, entries = parse_task_selector(text), session.queue.entries()
    with _newer_ones_told(session, [selector.job]):
        ref = match_one_job(selector.job, _refs(entries), _last(session, [selector.job], entries))
    jobs = session.queue.jobs(_entries_of(entries, [ref.id]), strict=True)
    if not jobs:
        raise NotFound(f"job {ref.id} has just been removed", hint="kubeq status lists the jobs there are")
    return _checked(Chosen(jobs[0], selector.indexes))


def find_stored(session: Session, text: str) -> Chosen:
    """As `find_one`, for whoever needs what the job has stored: that is in this configuration's store.

    Raises NotFound naming the store if it is another.
    """
    chosen = find_one(session, text)
    check_store_of(chosen.job, session.store)
    return chosen


def find_chosen(session: Session, texts: Sequence[str]) -> list[Chosen]:
    """The jobs and tasks that the texts mean; a job that several texts mean stands there once for each of them."""
    selectors, entries = [parse_task_selector(text) for text in texts], session.queue.entries()
    refs = _refs(entries)
    names = [selector.job for selector in selectors]
    last = _last(session, names, entries)
    with _newer_ones_told(session, names):
        wanted = [(ref.id, selector.indexes) for selector in selectors for ref in match_jobs(selector.job, refs, last)]
    found = session.queue.jobs(_entries_of(entries, [id for id, _ in wanted]), strict=not any(map(is_glob, names)))
    jobs = {job.id: job for job in found}
    return [_checked(Chosen(jobs[id], indexes)) for id, indexes in wanted if id in jobs]


def tasks_of(session: Session, chosen: Chosen, choice: Choice = EVERYTHING) -> Iterator[Task]:
    """Those tasks that the filters and the condition admit, by index. Raises NotFound for a number too large."""
    condition = choice.condition(chosen.job)
    for task in _all_tasks(session, chosen):
        if choice.filters.admits(task) and (condition is None or condition.admits(task)):
            yield task


def _all_tasks(session: Session, chosen: Chosen) -> Iterator[Task]:
    if chosen.whole:
        yield from session.queue.tasks(chosen.job.id)
        return
    indexes = chosen.indexes.of(chosen.job.name, chosen.job.total)
    while page := list(islice(indexes, PAGE)):
        yield from session.queue.tasks_at(chosen.job.id, page)


@contextmanager
def _newer_ones_told(session: Session, names: Sequence[str]) -> Iterator[None]:
    """A block that looks for jobs of those names. Where there is none, but the name is the id of a job that a newer
    kubeq wrote and that no listing has, the block ends with VersionMismatch instead of NotFound."""
    try:
        yield
    except NotFound:
        for name in filter(str.isprintable, names):
            with suppress(NotFound):
                session.queue.job(JobId(name))
        raise


def _checked(chosen: Chosen) -> Chosen:
    """Refuses numbers beyond the job before anything is done with the ones within."""
    if not chosen.whole:
        next(chosen.indexes.of(chosen.job.name, chosen.job.total))
    return chosen


def _refuse_tasks(text: str) -> None:
    selector = parse_task_selector(text)
    if not selector.indexes.all:
        raise UsageError(f"{text!r} names tasks, and a whole job is needed", hint=f"write {selector.job}")


def _last(session: Session, texts: Sequence[str], entries: Sequence[JobEntry]) -> JobId | None:
    """This user's newest submission from this machine; the journal is read only when LAST is asked for."""
    if LAST not in texts:
        return None
    journal = Journal(Path(session.config.state_dir), session.config.queue_url)
    return journal.last({str(entry.id) for entry in entries})


def _refs(entries: Sequence[JobEntry]) -> list[JobRef]:
    return [JobRef(entry.id, entry.name, entry.submitted_at) for entry in entries]


def _entries_of(entries: Sequence[JobEntry], ids: Sequence[JobId]) -> list[JobEntry]:
    """The entries of those ids, each once, in the order of the ids."""
    known = {entry.id: entry for entry in entries}
    return [known[id] for id in dict.fromkeys(ids)]
