"""`watch` at the screen: progress, output, or events as JSON lines. It changes nothing of the job.

Machines of a cloud that are gone are replaced for whoever watches a job of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeq.actions.outages import Announcer
from kubeq.actions.output_feed import OutputFeed
from kubeq.actions.replacing import replacing
from kubeq.actions.session import Session
from kubeq.actions.standstill import Standstill
from kubeq.actions.waiting import Tick, follow
from kubeq.cli.following import Departures, Printer, departure_text
from kubeq.cli.output import Mode, Output
from kubeq.cli.progress import Progress
from kubeq.cli.shown import iso
from kubeq.core.model import Job, JobStatus, Node, Task, TaskState
from kubeq.core.selectors import Indexes, parse_indexes

LISTING_SHARE = 10
"""Of a huge job no more than this fraction of the time goes into listing its tasks for events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """Something that happened: to a task, or (`task` None) to the job or a node."""

    at: float
    event: str
    state: str
    task: str | None = None
    reason: str | None = None
    node: str | None = None

    def text(self) -> Iterable[str]:
        return []

    def json(self) -> Mapping[str, Any]:
        return {
            "at": iso(self.at),
            "event": self.event,
            "task": self.task,
            "state": self.state,
            "reason": self.reason,
            "node": self.node,
        }

    def quiet(self) -> Iterable[str]:
        return []


def printed_tasks(job: Job, text: str | None) -> Indexes | None:
    """The tasks whose output is to be printed: none, all (no text), or those of `17`, `1-5` or `JOB/17`."""
    if text is None:
        return None
    tail = text.rpartition("/")[2]
    chosen = parse_indexes(tail, text) if tail else Indexes()
    next(chosen.of(job.name, job.total))
    return chosen


def watch_to_end(session: Session, job: Job, output: Output, printed: Indexes | None) -> Tick:
    """The last tick of the job. What the tasks in `printed` print goes to stdout; None: nothing of it."""
    progress, printer = Progress(output), Printer(output, one_task=job.total == 1)
    feed = OutputFeed(session, job) if printed is not None and output.mode is not Mode.JSON else None
    events = Events(session, output) if output.mode is Mode.JSON else None
    departures, standstill, announcer = Departures(), Standstill(session), Announcer(session.clock)
    try:
        for tick in follow(session, job, tend=replacing(session, job, output.note)):
            for sentence in announcer.news(tick.outages):
                progress.hide()
                output.warn(sentence)
            if tick.stale:
                continue
            if (because := standstill.news(tick)) is not None:
                progress.hide()
                if events is not None:
                    events.tell_standstill(tick, because)
                else:
                    output.note(f"nothing runs: {because}")
            for node in departures.new(tick):
                progress.hide()
                if events is not None:
                    events.tell_departure(node)
                else:
                    output.warn(departure_text(node))
            if not tick.ended:
                progress.show(tick)
            if events is not None:
                events.tell(tick)
            for piece in feed.poll(tick) if feed is not None else ():
                if printed is not None and piece.index in printed:
                    progress.hide()
                    printer.show(piece)
    finally:
        progress.hide()
        printer.close()
    return tick


class Events:
    """What has changed since the last tick, a JSON line each."""

    def __init__(self, session: Session, output: Output) -> None:
        self._session = session
        self._output = output
        self._status: JobStatus | None = None
        self._seen: dict[int, tuple[TaskState, int]] = {}
        self._listed: Mapping[Any, int] = {}
        self._not_before = 0.0

    def tell(self, tick: Tick) -> None:
        """Tell every change that can be seen now; of a task that changed twice between two looks the last state."""
        now = time.monotonic()
        if tick.ended or (tick.outcomes != self._listed and now >= self._not_before):
            self._listed = tick.outcomes
            for task in self._session.queue.tasks(tick.job.id):
                self._tell_task(task)
            self._not_before = time.monotonic() + LISTING_SHARE * (time.monotonic() - now)
        if tick.status is not self._status:
            self._status = tick.status
            self._output.show(EventView(at=self._session.clock.now(), event="job", state=tick.status))

    def tell_departure(self, node: Node) -> None:
        """Tell that a node has left as unfit."""
        at = node.ended_at or self._session.clock.now()
        self._output.show(EventView(at=at, event="node", state=node.state, reason=node.gone, node=node.name))

    def tell_standstill(self, tick: Tick, because: str) -> None:
        """Tell why nothing of the job runs."""
        at = self._session.clock.now()
        self._output.show(EventView(at=at, event="waiting", state=tick.status, reason=because))

    def _tell_task(self, task: Task) -> None:
        mark = (task.state, task.attempt)
        if self._seen.get(task.id.index, (TaskState.PENDING, 0)) == mark:
            return
        self._seen[task.id.index] = mark
        current = task.current
        self._output.show(
            EventView(
                at=self._session.clock.now(),
                event="task",
                task=str(task.id),
                state=task.state,
                reason=task.reason,
                node=current.node if current is not None else None,
            )
        )
