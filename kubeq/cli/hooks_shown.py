"""Running a job's hooks at its end, and telling what became of them. Nothing of it changes the exit code."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator

from kubeq.actions.hooks import has_hooks, log_path, run_hook, take_hooks
from kubeq.actions.reporting import report_of
from kubeq.actions.session import Session
from kubeq.cli.output import Output
from kubeq.cli.views_report import ReportView
from kubeq.core.model import Job
from kubeq.errors import KubeqError


def run_hooks(session: Session, output: Output, job: Job) -> None:
    """Run those that are due at this end of the job; what they print goes to stderr."""
    try:
        kept = take_hooks(session, job)
        if kept is None:
            return
        view = ReportView(report_of(session, job))
    except KubeqError as error:
        output.warn(f"no hook of job {job.id} was run: {error.message}")
        return
    document, text = {"schema": 1, **view.json()}, "".join(f"{line}\n" for line in view.text())
    for hook in kept.hooks:
        run = run_hook(hook, kept.folder, document, text)
        for line in run.lines:
            output.note(line)
        if run.error is not None:
            output.warn(f"the hook {hook.title!r} failed: {run.error}")


def leave_watcher(session: Session, output: Output, job: Job) -> None:
    """Have a process wait for the job's end and run its hooks then, if it has any and nobody waits so: this command
    will not. A lock on its log, which it has as long as it lives, says that there is one.
    """
    if not has_hooks(session, job.id):
        return
    path = log_path(session, job.id)
    try:
        with path.open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "kubeq", *_same_place(session), "watch", job.id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=session.config.place.base,
                start_new_session=True,
            )
    except BlockingIOError:
        return
    except OSError as error:
        output.warn(f"nobody runs the hooks at the end of job {job.id}: {error}; kubeq watch {job.id} does")
        return
    output.note(f"process {process.pid} runs its hooks at its end; what it says is in {path}")


def _same_place(session: Session) -> Iterator[str]:
    """Options of kubeq with which a command has the same queue, store and state."""
    config = session.config
    if config.path is not None:
        yield from ("--config", str(config.path))
    if config.profile is not None:
        yield from ("--profile", config.profile)
    places = {
        "state_dir": config.state_dir,
        "region": config.region,
        "project": config.project,
        "default_url_prefix": config.default_url_prefix,
        "cas_url_prefix": config.cas_url_prefix,
        "queue_url": config.queue_url,
    }
    for name, value in places.items():
        if value is not None:
            yield from ("-o", f"{name}={value}")
