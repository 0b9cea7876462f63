"""`sub` from the first word to the exit code: plan, submit, nodes, wait, fetch; what an interrupt means on the way."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

from kubeq.actions.aborting import abort
from kubeq.actions.agents import agent_line
from kubeq.actions.existing import IfExists
from kubeq.actions.hooks import keep_hooks
from kubeq.actions.launching import ensure_nodes, nodes_for, pool_of_job, pool_of_request
from kubeq.actions.plan import Plan, make_plan
from kubeq.actions.preflight import preflight
from kubeq.actions.preview import preview, quote_for
from kubeq.actions.session import Session
from kubeq.actions.sources import look_of
from kubeq.actions.spending import Quote
from kubeq.actions.submit import Submitted, Upload, submit
from kubeq.actions.tending import tending_of
from kubeq.actions.waiting import Tick
from kubeq.actions.warm import why_not_warm
from kubeq.cli.following import end_error, show_failures, tell_end, tell_skipped, wait_for_end
from kubeq.cli.hooks_shown import leave_watcher, run_hooks
from kubeq.cli.interrupts import interruptible
from kubeq.cli.output import Mode, Output
from kubeq.cli.shown import count
from kubeq.cli.spending import agreed
from kubeq.cli.starting import kept
from kubeq.cli.views_sub import IdView, PreviewView, SubView, sent_text
from kubeq.core.model import Job, NodeState, Pool
from kubeq.core.quantities import format_size
from kubeq.core.selectors import Indexes
from kubeq.errors import BackendError, Interrupted, KubeqError, UsageError
from kubeq.nodes.open import HOSTS

_REDRAW_S = 0.2


def run_submission(session: Session, output: Output, command: Sequence[str], *, yes: bool = False) -> None:
    """Everything that `sub` does, in the configuration that its options are part of; `yes`: it may spend money."""
    if output.mode is Mode.CSV:
        raise UsageError("the answer of sub is not a table, so it has no csv form", hint="use --json")
    config = session.config
    lines = _lines(output) if config.stdin else None
    plan = make_plan(command, config, session.provider, lines, look_of(session))
    for sentence in (*plan.warnings, *(session.dressing.warnings if session.dressing else ())):
        output.warn(sentence)
    if not config.stdin:
        _tell_unread_stdin(output)
    ready = preflight(session, plan)
    for sentence in ready.warnings:
        output.warn(sentence)
    if config.dry_run:
        output.show(PreviewView(preview(session, plan, ready)))
        return
    with interruptible():
        pool = pool_of_request(session, private=config.local)
        if ready.offers and not config.prepare:
            _agree(session, output, pool, quote_for(session, plan, pool, ready), yes=yes)
        submitted = _submit(session, plan, pool, ready.pinned, output)
        if output.mode is Mode.QUIET or (output.mode is Mode.TEXT and not _prints_tasks(session, submitted.job)):
            _show_id(output, submitted.job)
        _go_on(session, submitted, pool if submitted.created else pool_of_job(session, submitted.job), output)


def _agree(session: Session, output: Output, pool: Pool, quote: Quote, *, yes: bool) -> None:
    """Say what machines do the work, and what new ones cost. Raises Interrupted if the user does not want that."""
    if quote.warm:
        is_up = "machine of the pool is up" if quote.warm == 1 else "machines of the pool are up"
        output.note(f"{quote.warm:,} {is_up}, and take{'s' * (quote.warm == 1)} what there is to do")
    elif (why := why_not_warm(session, pool)) is not None:
        output.note(why)
    if not agreed(output, quote, yes=yes):
        raise Interrupted("nothing was submitted, as no machine is to be started")


def _show_id(output: Output, job: Job) -> None:
    try:
        output.show(IdView(job.id))
    except BrokenPipeError:  # the job stands, and nobody's reading is needed for it to run
        output.forsake_stdout()


def _submit(session: Session, plan: Plan, pool: Pool, pinned: str | None, output: Output) -> Submitted:
    config = session.config
    report = _Report(output)
    try:
        return submit(
            session,
            plan,
            pool,
            if_exists=IfExists(config.if_exists) if config.if_exists else None,
            pinned=pinned,
            report=report,
        )
    except KeyboardInterrupt:
        if report.job is None:
            raise Interrupted("interrupted; nothing was submitted") from None
        raise Interrupted(
            f"interrupted; job {report.job.id} is incomplete and none of it runs",
            hint=f"kubeq resume {report.job.id} completes it; kubeq clean {report.job.id} --force removes it",
        ) from None
    except KubeqError:
        if report.job is not None:
            output.note(f"job {report.job.id} is incomplete: kubeq resume {report.job.id} tries to complete it")
        raise
    finally:
        report.hide()


def _go_on(session: Session, submitted: Submitted, pool: Pool, output: Output) -> None:
    """From the seal on: nothing that happens here can lose the job."""
    config, job = session.config, submitted.job
    if not submitted.created:
        output.note(f"job {job.id} ({job.name}) has the same specification; nothing was submitted")
        if config.notify and job.open:
            keep_hooks(session, job.id)
        elif config.notify:
            output.warn(f"job {job.id} has ended before, so no hook is run")
        if not job.open:
            output.show(SubView(submitted=submitted, nodes=0))
            return
    if config.prepare:
        leave_watcher(session, output, job)
        output.show(SubView(submitted=submitted, nodes=0, command=agent_line(session, pool)))
        return
    end, nodes = None, 0
    try:
        nodes = len(ensure_nodes(session, pool, nodes_for(session, pool, job.total, job), output.warn, job))
        if not config.no_wait:
            printing = _prints_tasks(session, job)
            end = wait_for_end(session, job, output, tend=tending_of(session, job, output.note), printing=printing)
    except KeyboardInterrupt:
        raise _interrupted(session, job, output) from None
    except BackendError as error:
        if error.hint is None:
            error.hint = f"the job goes on by itself; kubeq watch {job.id} follows it again" if nodes else kept(job)
        raise
    if end is None:
        leave_watcher(session, output, job)
        output.note(f"kubeq watch {job.id} follows it")
        output.show(SubView(submitted=submitted, nodes=nodes))
        return
    _end(session, output, SubView(submitted=submitted, nodes=nodes, end=end), end)


def _prints_tasks(session: Session, job: Job) -> bool:
    """Whether stdout is what the tasks print; then the id, which is on stderr too, is not mixed into it."""
    config = session.config
    return not (config.no_wait or config.prepare) and (config.local or job.total == 1)


def _end(session: Session, output: Output, view: SubView, end: Tick) -> None:
    """What is said and done after the job's end; the exit code follows from the error that is raised."""
    tell_end(output, end)
    show_failures(session, output, end, Indexes() if _prints_tasks(session, end.job) else None)
    tell_skipped(session, output, end)
    error = end_error(end)
    if session.config.fetch is not None:
        error = _fetch(session, end.job, output) or error
    output.show(view)
    run_hooks(session, output, end.job)
    if error is not None:
        raise error


def _fetch(session: Session, job: Job, output: Output) -> KubeqError | None:
    """The error that kept some results from being fetched, but for tasks that have none."""
    from kubeq.actions.fetch import FetchRequest, fetch_job

    assert session.config.fetch is not None
    fetched = fetch_job(session, job, FetchRequest(destination=session.config.fetch))
    moved = sum(task.moved for task in fetched.tasks)
    output.note(f"fetched {count(moved, 'file')} of {count(len(fetched.tasks), 'task')} into {session.config.fetch}")
    return fetched.error() if fetched.refused else None


def _interrupted(session: Session, job: Job, output: Output) -> Interrupted:
    """What an interrupt did, as the error that gives the exit code. A second one ends the command at once."""
    if session.config.on_interrupt == "detach":
        leave_watcher(session, output, job)
        return Interrupted(
            f"detached from job {job.id} ({job.name}), which goes on by itself {_where(session, job)}",
            hint=f"kubeq watch {job.id} follows it; kubeq kill {job.id} stops it",
        )
    output.note(f"pausing job {job.id} and stopping its nodes; interrupt again to leave at once")
    stopped = abort(session, job)
    kept = "" if stopped.asked else "; its nodes serve other jobs too, so they and what they run of it go on"
    late = f"; still leaving: {', '.join(stopped.left_over)}" if stopped.left_over else ""
    return Interrupted(f"job {job.id} ({job.name}) is paused{kept}{late}", hint=f"kubeq resume {job.id} goes on")


def _where(session: Session, job: Job) -> str:
    """On what the job goes on, and what that costs."""
    provider = session.provider_of(job.pool)
    if not provider.capabilities.costs_money:
        return "on its hosts" if provider.name == HOSTS else "on this machine"
    up = [node for node in session.queue.peers(job.pool) if node.machine and node.state is not NodeState.GONE]
    if not up:
        return f"once it has machines (kubeq addnodes 1 {job.id})"
    prices = [node.machine.price for node in up if node.machine and node.machine.price is not None]
    return f"on {count(len(up), 'machine')}" + (f" at ${sum(prices):.4g} an hour" if len(prices) == len(up) else "")


class _Report:
    """Tells on stderr how a submission goes; remembers the job once there is one."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._upload = Upload()
        self._sent = 0
        self._drawn_at = 0.0
        self.job: Job | None = None

    def hashed(self, files: int, size: int) -> None:
        if files:
            self._draw(f"read {count(files, 'file')}, {format_size(size)}")

    def begun(self, job: Job) -> None:
        self.job = job
        self.hide()
        self._output.note(f"submitting {job.name} as {job.id}: {count(job.total, 'task')}")

    def uploading(self, upload: Upload) -> None:
        self._upload = upload
        if upload.files or upload.already:
            self._output.note(f"sending {sent_text(upload)}")

    def sent(self, size: int) -> None:
        self._sent = min(self._sent + size, self._upload.size)
        self._draw(f"sent {format_size(self._sent)} of {format_size(self._upload.size)}")

    def hide(self) -> None:
        """Take the live line away."""
        if self._drawn_at:
            self._output.draw("\r\x1b[2K")
            self._drawn_at = 0.0

    def _draw(self, line: str) -> None:
        now = time.monotonic()
        if self._output.live and now - self._drawn_at >= _REDRAW_S:
            self._drawn_at = now
            self._output.draw(f"\r\x1b[2K{line}")


def _lines(output: Output) -> BinaryIO | None:
    """Where the tasks of --stdin come from; None if stdin is closed."""
    if sys.stdin is None:
        return None
    if sys.stdin.isatty():
        output.note("reading tasks from the terminal, one a line; Ctrl-D ends them")
    return sys.stdin.buffer


def _tell_unread_stdin(output: Output) -> None:
    """Say so when something was piped in: no task will ever read it."""
    with suppress(OSError, ValueError, AttributeError):
        handle = sys.stdin.fileno()
        if not stat.S_ISFIFO(os.fstat(handle).st_mode):
            return
        if any(fcntl.ioctl(handle, termios.FIONREAD, bytes(4))):  # the number of bytes that wait, as an int of C
            output.warn("stdin is a pipe that nothing reads: tasks have no stdin")
