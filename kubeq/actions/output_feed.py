"""The output of every task of a running job, as it comes, at the price of looking only at tasks that may have some new.

For a submitter that waits; one task is followed by `logs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from kubeq.actions.session import Session
from kubeq.actions.waiting import Tick
from kubeq.core.model import UNFINISHED, Job, Task, TaskState
from kubeq.queue.swaps import batches
from kubeq.store.logs import LogReader

LOOK_S = 0.25
"""Between two looks for new output of tasks that go on running; agents send it every few seconds."""
PAGE = 64
"""Tasks looked at in one request while searching for those that have begun."""
MOST_PAGES = 16
"""So many requests a poll at most: a task given back between two looks must not make us look at all the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """Something a task printed; pieces are cut anywhere."""

    index: int
    content: bytes


class OutputFeed:
    """What the tasks of one job have printed since the last poll."""

    def __init__(self, session: Session, job: Job) -> None:
        self._session = session
        self._job = job
        self._readers: dict[int, tuple[int, LogReader]] = {}
        self._waiting: set[int] = set()
        self._frontier = 1
        self._ended = 0
        self._looked = float("-inf")

    def poll(self, tick: Tick) -> Iterator[Printed]:
        """New output, a task after the other; all that there is once the tick says that the job has ended."""
        now = self._session.clock.monotonic()
        due = tick.ended or now - self._looked >= LOOK_S
        if due:
            self._looked = now
        if due or tick.finished > self._ended:
            yield from self._look(sorted(self._readers))
        begun = tick.finished + tick.tasks[TaskState.CLAIMED]
        pages = islice(self._pages(), None if tick.ended else MOST_PAGES)
        while self._ended + len(self._readers) < begun and (page := next(pages, None)):
            self._waiting.difference_update(page)
            yield from self._look(page)

    def _pages(self) -> Iterator[Sequence[int]]:
        """Indexes that may have begun since they were looked at last: those that waited, then new ones."""
        yield from batches(sorted(self._waiting), PAGE)
        while self._frontier <= self._job.total:
            page = range(self._frontier, min(self._frontier + PAGE, self._job.total + 1))
            self._frontier = page.stop
            yield page

    def _look(self, indexes: Sequence[int]) -> Iterator[Printed]:
        if not indexes:
            return
        for task in self._session.queue.tasks_at(self._job.id, indexes):
            yield from self._read(task)

    def _read(self, task: Task) -> Iterator[Printed]:
        index = task.id.index
        attempt, reader = self._readers.pop(index, (0, None))
        if reader is not None and attempt != task.attempt:
            yield from self._drain(index, reader)
            reader = None
        if task.attempt == 0 or (task.state is TaskState.PENDING and reader is None):
            self._note_unbegun(task)
            return
        reader = reader or LogReader(self._session.store, self._session.outputs, task.id, task.attempt)
        if task.state is TaskState.CLAIMED:
            yield from self._drain(index, reader)
            self._readers[index] = task.attempt, reader
        else:
            yield from self._drain(index, reader)
            self._note_unbegun(task)

    def _note_unbegun(self, task: Task) -> None:
        """A task that runs no more, or not yet: it has ended, or has to be looked at again."""
        if task.state in UNFINISHED:
            self._waiting.add(task.id.index)
        else:
            self._ended += 1

    def _drain(self, index: int, reader: LogReader) -> Iterator[Printed]:
        while content := reader.read_new():
            yield Printed(index=index, content=content)
