"""Bringing the results of a job into a directory: which tasks, which attempt, what is there already.

    DIR/<index>/<path>                                what the task wrote
    DIR/<index>/stdout.txt  DIR/<index>/result.json   what kubeq adds; `kubeq.` stands before the name where the task
                                                      wrote a file of that name itself
    DIR/<index>-<path with - for />                   the same with `flat`; the index is padded with zeros

How one task's files get there is in `fetch_task`, how anything is written in `confined`. A second fetch reads what is
there, moves only the rest, and replaces only what an earlier fetch wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kubeq.actions.confined import Confined, open_confined
from kubeq.actions.fetch_task import TaskFetch, Wanted
from kubeq.actions.finding import EVERYTHING, Choice, Chosen, known_jobs, tasks_of
from kubeq.actions.session import Session
from kubeq.actions.waiting import SHORTEST_WAIT_S, pause_after
from kubeq.core.model import UNFINISHED, Job, Task, TaskState
from kubeq.core.selectors import Indexes
from kubeq.errors import Conflict, IntegrityError, KubeqError, NotFound, ObjectNotFound, TasksFailed
from kubeq.queue.rows import Outcome
from kubeq.store.parallel import run_parallel, threads_for

FOLLOW_S = 2.0
"""Between two looks at whether more tasks have ended, at most."""
READING_SHARE = 10
"""Of a huge job no more than this fraction of the time goes into reading which of its tasks have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedTask:
    """A task whose results are there now: `files` and `bytes` of them, `moved` those that were not there before.

    `new`: something was written for it, if only its result document. `not_stored` is how many files it left that are no
    results, because they could not be stored.
    """

    index: int
    attempt: int
    files: int
    bytes: int
    moved: int
    new: bool
    not_stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingTask:
    """A task that has no results to fetch, and why."""

    index: int
    state: TaskState
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a fetch came to. `refused` are tasks whose results could not be taken over, and why."""

    job: Job
    destination: Path
    tasks: tuple[FetchedTask, ...] = ()
    missing: tuple[MissingTask, ...] = ()
    refused: tuple[tuple[int, KubeqError], ...] = ()

    def error(self) -> KubeqError | None:
        """The error that the exit code follows from, if not every task that was meant is there."""
        if self.refused:
            index, first = self.refused[0]
            more = f" (and {len(self.refused) - 1} more tasks)" if len(self.refused) > 1 else ""
            return type(first)(f"task {index} was not fetched: {first.message}{more}", hint=first.hint)
        if self.missing:
            count = len(self.missing)
            verb = "1 task has" if count == 1 else f"{count:,} tasks have"
            unfinished = any(task.state in UNFINISHED for task in self.missing)
            again = f"kubeq fetch --follow {self.job.id} waits for the rest" if unfinished else None
            return TasksFailed(f"{verb} no results", hint=again or f"kubeq list {self.job.id} says why")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What to fetch, and how. `results` are patterns of files; without any, all. `attempt` None: the result.

    `progress` is told each task that is there, from several threads.
    """

    destination: Path
    choice: Choice = EVERYTHING
    indexes: Indexes = field(default_factory=Indexes)
    flat: bool = False
    results: tuple[str, ...] = ()
    attempt: int | None = None
    follow: bool = False
    progress: Callable[[FetchedTask], None] | None = None


def fetch_job(session: Session, job: Job, request: FetchRequest) -> Fetched:
    """Have the results of the tasks in the destination. What could not be had is in the answer.

    Raises UsageError or BackendError if the destination cannot be written, Conflict for an incomplete job.
    """
    if job.sealed_at is None:
        raise Conflict(
            f"job {job.id} ({job.name}) is incomplete: none of its tasks has run", hint=f"kubeq resume {job.id}"
        )
    fetching = _Fetching(session, job, request)
    with open_confined(request.destination) as confined:
        fetching.fetch_all(confined)
        while request.follow and fetching.unfinished:
            while fetching.unfinished:
                fetching.wait_for_more()
                fetching.fetch_missing(confined)
            fetching.fetch_all(confined)  # some that were there already may have run again meanwhile
    return fetching.fetched()


def default_destination(session: Session, job: Job) -> Path:
    """`./NAME`; for an older job of a name that a newer one has taken, `./ID`."""
    mine = (job.submitted_at, job.id)
    newer = any(ref.name == job.name and (ref.submitted_at, ref.id) > mine for ref in known_jobs(session))
    return Path(job.id if newer else job.name)


class _Fetching:
    """One fetch under way; with `follow` it goes over the tasks more than once."""

    def __init__(self, session: Session, job: Job, request: FetchRequest) -> None:
        self._session = session
        self._job = job
        self._request = request
        self._there: dict[tuple[int, int], FetchedTask] = {}
        self._refused: dict[int, KubeqError] = {}
        self._missing: list[MissingTask] = []
        self._ended = 0
        self._not_before = 0.0
        self._width = len(str(job.total))

    @property
    def unfinished(self) -> bool:
        return any(task.state in UNFINISHED for task in self._missing)

    def wait_for_more(self) -> None:
        """Return when something has ended and it is time to read the tasks again, or when everything has ended."""
        queue, clock = self._session.queue, self._session.clock
        pause = SHORTEST_WAIT_S
        while True:
            time.sleep(pause)
            queue.wait(FOLLOW_S)
            began = clock.monotonic()
            outcomes = queue.outcomes(self._job.id)
            ended = _ended(outcomes)
            pause = pause_after(queue.reach, outcomes, clock.monotonic() - began)
            if ended >= self._job.total or (ended != self._ended and began >= self._not_before):
                self._ended = ended
                return

    def fetch_all(self, confined: Confined) -> None:
        """Fetch everything that has ended and is not there yet."""
        if self._request.follow:  # a count reads every row of the job in DynamoDB, as the list after it does
            self._ended = _ended(self._session.queue.outcomes(self._job.id))
        self._missing = []
        self._fetch_ended(confined, self._request.indexes)

    def fetch_missing(self, confined: Confined) -> None:
        """Fetch what has ended of the tasks that were unfinished at the last look; no other is read."""
        unfinished = [missing.index for missing in self._missing if missing.state in UNFINISHED]
        self._missing = [missing for missing in self._missing if missing.state not in UNFINISHED]
        self._fetch_ended(confined, Indexes(tuple(_runs(unfinished))))

    def _fetch_ended(self, confined: Confined, indexes: Indexes) -> None:
        began = self._session.clock.monotonic()
        wanted = list(self._wanted(indexes))
        read = self._session.clock.monotonic()
        self._not_before = read + READING_SHARE * (read - began)
        threads = threads_for(self._session.store.reach)
        inner = max(1, threads // max(1, len(wanted)))
        calls = [partial(self._fetch, confined, task, attempt, inner) for task, attempt in wanted]
        self._missing += [missing for missing in run_parallel(calls, threads) if missing is not None]
        self._missing.sort(key=lambda missing: missing.index)

    def fetched(self) -> Fetched:
        newest = {index: task for (index, _), task in sorted(self._there.items())}
        return Fetched(
            job=self._job,
            destination=self._request.destination,
            tasks=tuple(newest[index] for index in sorted(newest)),
            missing=tuple(self._missing),
            refused=tuple(sorted(self._refused.items(), key=lambda pair: pair[0])),
        )

    def _wanted(self, indexes: Indexes) -> Iterator[tuple[Task, int]]:
        """The tasks that have a result which is not there yet, with the attempt; the others become `missing`."""
        for task in tasks_of(self._session, Chosen(self._job, indexes), self._request.choice):
            attempt = self._request.attempt or task.result
            if attempt is None or attempt > task.attempt:
                why = str(task.state) if self._request.attempt is None else f"no attempt {attempt}"
                self._missing.append(MissingTask(index=task.id.index, state=task.state, why=why))
            elif (task.id.index, attempt) not in self._there and task.id.index not in self._refused:
                yield task, attempt

    def _fetch(self, confined: Confined, task: Task, attempt: int, threads: int) -> MissingTask | None:
        """Fetch one task; MissingTask if it stored nothing. Errors about this task alone are kept for the end."""
        index = task.id.index
        wanted = Wanted(
            task=task.id,
            attempt=attempt,
            results=self._request.results,
            prefix=f"{index:0{self._width}d}-" if self._request.flat else None,
        )
        try:
            done = TaskFetch(self._session.outputs, confined, wanted).run(threads)
        except ObjectNotFound as error:
            return self._without_document(task, attempt, error)
        except (IntegrityError, Conflict, NotFound) as error:
            self._refused[index] = error
            return None
        fetched = FetchedTask(
            index=index,
            attempt=attempt,
            files=done.files,
            bytes=done.bytes,
            moved=done.moved,
            new=done.new or done.moved > 0,
            not_stored=done.not_stored,
        )
        self._there[index, attempt] = fetched
        if self._request.progress is not None:
            self._request.progress(fetched)
        return None

    def _without_document(self, task: Task, attempt: int, error: ObjectNotFound) -> MissingTask | None:
        """A task that failed before its command ran stored nothing; anything else that is not there was lost."""
        if task.state is TaskState.SUCCEEDED and attempt == task.result:
            self._refused[task.id.index] = IntegrityError(
                f"its results have vanished from the store: {error.message}",
                hint=f"run it again: kubeq reset {task.id}",
            )
            return None
        message = next((past.message for past in task.attempts if past.number == attempt and past.message), None)
        why = f"attempt {attempt} stored nothing" + (f": {message}" if message else "")
        return MissingTask(index=task.id.index, state=task.state, why=why)


def _ended(outcomes: Mapping[Outcome, int]) -> int:
    """How many tasks have ended."""
    return sum(count for outcome, count in outcomes.items() if outcome.state not in UNFINISHED)


def index_list(indexes: Sequence[int], most: int = 10) -> str:
    """`1-3, 7, 9` and how many more."""
    runs = _runs(indexes)
    shown = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:most])
    return shown if len(runs) <= most else f"{shown} and {len(runs) - most} more ranges"


def _runs(indexes: Sequence[int]) -> list[range]:
    """Sorted indexes as ranges that do not touch."""
    runs: list[range] = []
    for index in indexes:
        if runs and index == runs[-1].stop:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return runs
