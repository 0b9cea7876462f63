"""`kubeq watch`: follow a job to its end."""

from __future__ import annotations

from pathlib import Path

import click

from kubeq.cli.job_options import job_argument
from kubeq.cli.main import Globals, global_options
from kubeq.errors import Conflict, Interrupted, UsageError


@click.command(short_help="Follow a job to its end.")
@global_options
@click.option("--logs", "logs", is_flag=False, flag_value="", metavar="[TASK]", help="Print what its tasks print.")
@click.option("--fetch", "directory", type=click.Path(path_type=Path), metavar="DIR", help="Then fetch its results.")
@job_argument()
@click.pass_obj
def command(settings: Globals, job: str, logs: str | None, directory: Path | None) -> None:
    """Show how JOB goes on until it has ended; exit 0 if every task succeeded, else 3. Any number may watch: nothing
    is changed, and Ctrl-C leaves the job running (exit 130). With --json a line for every event.
    """
    from kubeq.actions.fetch import FetchRequest, fetch_job
    from kubeq.actions.finding import find_job
    from kubeq.cli.following import end_error, show_failed_tail, tell_end
    from kubeq.cli.interrupts import interruptible
    from kubeq.cli.views_fetch import FetchedView
    from kubeq.cli.watching import printed_tasks, watch_to_end

    session, output = settings.session, settings.output
    if output.mode is output.mode.CSV:
        raise UsageError("what watch shows is not a table", hint="use --json")
    found = find_job(session, job)
    if found.sealed_at is None:
        raise Conflict(f"job {found.id} ({found.name}) is incomplete", hint=f"kubeq resume {found.id} completes it")
    printed = printed_tasks(found, logs)
    try:
        with interruptible():
            end = watch_to_end(session, found, output, printed)
    except KeyboardInterrupt:
        raise Interrupted(
            f"not watching any more; job {found.id} ({found.name}) goes on",
            hint=f"kubeq watch {found.id} watches again; kubeq kill {found.id} stops it",
        ) from None
    tell_end(output, end)
    if printed is None:
        show_failed_tail(session, output, end)
    error = end_error(end)
    if directory is not None:
        fetched = fetch_job(session, end.job, FetchRequest(destination=directory))
        if output.mode is output.mode.TEXT:
            output.show(FetchedView(fetched))
        error = (fetched.error() if fetched.refused else None) or error
    if error is not None:
        raise error
