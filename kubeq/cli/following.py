"""Waiting at the screen: progress, what tasks print, how the job ended. What waiting is stands in `actions.waiting`."""

from __future__ import annotations

from kubeq.actions.facts import skipped_of
from kubeq.actions.logs import last_lines
from kubeq.actions.outages import Announcer
from kubeq.actions.output_feed import OutputFeed, Printed
from kubeq.actions.session import Session
from kubeq.actions.standstill import Standstill
from kubeq.actions.waiting import Tend, Tick, follow
from kubeq.cli.output import Mode, Output
from kubeq.cli.progress import Progress
from kubeq.cli.shown import count, warn_of_orphans
from kubeq.cli.views_jobs import counts_text
from kubeq.core.model import Job, JobStatus, Node, NodeName, Task, TaskState
from kubeq.core.printed import Lines
from kubeq.core.quantities import format_duration
from kubeq.core.selectors import Indexes
from kubeq.errors import KubeqError, TasksFailed

TAIL_LINES = 20
"""So much of a failed task's output is shown at the end."""


def wait_for_end(session: Session, job: Job, output: Output, *, tend: Tend | None, printing: bool) -> Tick:
    """The last tick of the job. With `printing`, what its tasks print goes to stdout as it comes, in text mode."""
    progress = Progress(output)
    feed = OutputFeed(session, job) if printing and output.mode is Mode.TEXT else None
    printer, departures, standstill = Printer(output, one_task=job.total == 1), Departures(), Standstill(session)
    announcer = Announcer(session.clock)
    try:
        for tick in follow(session, job, tend=tend):
            for sentence in announcer.news(tick.outages):
                progress.hide()
                output.warn(sentence)
            if tick.stale:
                continue
            if (because := standstill.news(tick)) is not None:
                progress.hide()
                output.note(f"nothing runs: {because}")
            for node in departures.new(tick):
                progress.hide()
                output.warn(departure_text(node))
            if not tick.ended:
                progress.show(tick)
            for printed in feed.poll(tick) if feed is not None else ():
                progress.hide()
                printer.show(printed)
    finally:
        progress.hide()
        printer.close()
    return tick


class Departures:
    """Nodes that have left as unfit while the job waited for them."""

    def __init__(self) -> None:
        self._told: set[NodeName] = set()

    def new(self, tick: Tick) -> list[Node]:
        """Those that were not in an earlier tick."""
        found = [node for node in tick.nodes.retired if (node.ended_at or 0.0) >= tick.job.submitted_at]
        new = [node for node in found if node.name not in self._told]
        self._told.update(node.name for node in new)
        return new


def departure_text(node: Node) -> str:
    """Why it left, in a sentence."""
    return f"node {node.name} has left: {node.note or node.gone}"


class Printer:
    """Output of tasks on stdout: as it is for a job of one task, else every line with its task's index before it."""

    def __init__(self, output: Output, *, one_task: bool) -> None:
        self._output = output
        self._as_it_is = one_task and not output.on_terminal
        self._prefixed = not one_task
        self._lines: dict[int, Lines] = {}

    def show(self, printed: Printed) -> None:
        """Print what is a whole line now; the rest is kept."""
        if self._as_it_is:
            self._raw(printed.content)
            return
        lines = self._lines.setdefault(printed.index, Lines())
        self._print(printed.index, lines.feed(printed.content))

    def close(self) -> None:
        """Print last lines that have no end."""
        for index, lines in self._lines.items():
            self._print(index, lines.close())
        self._lines.clear()

    def _print(self, index: int, lines: list[str]) -> None:
        prefix = f"[{index}] " if self._prefixed else ""
        for line in lines:
            self._raw(f"{prefix}{line}\n".encode())

    def _raw(self, content: bytes) -> None:
        try:
            self._output.raw(content)
        except BrokenPipeError:  # who read it has gone; the job goes on, and its end is still to be told
            self._output.forsake_stdout()


def tell_end(output: Output, tick: Tick) -> None:
    """One line about how the job ended, and one about machines that should not be there."""
    job, tasks = tick.job, tick.tasks
    counts = [f"{tasks[state]:,} {state}" for state in TaskState if tasks[state]]
    elapsed = format_duration((job.closed_at or job.submitted_at) - job.submitted_at)
    output.note(f"{job.name} {tick.status}: {', '.join(counts)} of {job.total:,} in {elapsed}")
    warn_of_orphans(output, tick.nodes.orphaned)


def show_failures(session: Session, output: Output, tick: Tick, printed: Indexes | None) -> None:
    """Why tasks failed, counted, and the first one's own words, on stderr.

    `printed` are the tasks whose output was shown already; of any other the last lines are shown too.
    """
    task = first_failed(session, tick)
    if task is None:
        return
    kinds = {outcome: count for outcome, count in tick.outcomes.items() if outcome.state is TaskState.FAILED}
    if sum(kinds.values()) > 1:
        output.note(f"why: {counts_text(kinds)}")
    why = task.current.message if task.current is not None and task.current.message else str(task.reason)
    if printed is not None and task.id.index in printed:
        output.note(f"task {task.id.index}: {why}")
        return
    lines = last_lines(session, task, TAIL_LINES)
    output.note(f"task {task.id.index}: {why}" + ("; its last lines:" if lines else "; it printed nothing"))
    for line in lines:
        output.note(f"  {line}")


def tell_skipped(session: Session, output: Output, tick: Tick) -> None:
    """A line about files that were left and are not stored, for jobs that are small enough to look."""
    found = skipped_of(session, tick.job)
    if found is None or not found.files:
        return
    names, verb = count(found.files, "file"), "was" if found.files == 1 else "were"
    output.note(f"{names} {verb} not stored, as links and special files are not: kubeq show {found.first} lists them")


def first_failed(session: Session, tick: Tick) -> Task | None:
    """The failed task with the lowest index."""
    if not tick.tasks[TaskState.FAILED]:
        return None
    return next((task for task in session.queue.tasks(tick.job.id) if task.state is TaskState.FAILED), None)


def end_error(tick: Tick) -> KubeqError | None:
    """The error that the exit code follows from; None if every task succeeded."""
    if tick.status is JobStatus.SUCCEEDED:
        return None
    job, tasks = tick.job, tick.tasks
    failed, cancelled = tasks[TaskState.FAILED], tasks[TaskState.CANCELLED]
    parts = [f"{failed:,} failed"] if failed else []
    if cancelled:
        parts.append(f"{cancelled:,} {'was' if cancelled == 1 else 'were'} cancelled")
    only_failed = " --failed" if failed and not cancelled else ""
    again = f"retry {job.id}" if failed and not cancelled else f"reset {job.id}"
    first = f"kubeq show {job.id}/1 tells more" if job.total == 1 else f"kubeq list {job.id}{only_failed}"
    return TasksFailed(
        f"of {job.total:,} task{'s' * (job.total != 1)} of job {job.id} ({job.name}), {' and '.join(parts)}",
        hint=f"{first}; kubeq {again} runs {'it' if job.total == 1 else 'them'} again",
    )
