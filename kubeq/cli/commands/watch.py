"""`kubeq watch`: follow a job to its end."""

from __future__ import annotations

from pathlib import Path

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import FilePath, complete_job
from kubeq.errors import Conflict, Interrupted, UsageError


@click.command(short_help="Follow a job to its end.")
@global_options
@click.option("--logs", "logs", is_flag=False, flag_value="", metavar="[TASK]", help="Print what its tasks print.")
@click.option("--fetch", "directory", type=FilePath(), metavar="DIR", help="Then fetch its results.")
@click.argument("job", required=False, metavar="JOB", shell_complete=complete_job)
@click.pass_obj
def command(settings: Globals, job: str | None, logs: str | None, directory: Path | None) -> None:
    """Show how JOB goes on until it has ended; exit 0 if every task succeeded, else 3. Any number may watch: nothing
    of the job is changed, and Ctrl-C leaves it running (exit 130). Machines of a cloud that are gone are replaced, as
    many as JOB was submitted for, if it is yours. With --json a line for every event.
    """
    from kubeq.actions.fetch import FetchRequest, fetch_job
    from kubeq.actions.finding import find_job
    from kubeq.actions.folders import check_destination
    from kubeq.cli.following import end_error, show_failures, tell_end
    from kubeq.cli.hooks_shown import run_hooks
    from kubeq.cli.interrupts import interruptible
    from kubeq.cli.views_fetch import FetchedView
    from kubeq.cli.watching import printed_tasks, watch_to_end

    if job is None:
        hint = f"--logs took {logs!r} for a task: kubeq watch {logs} --logs" if logs else "kubeq watch LAST"
        raise UsageError("watch needs a JOB", hint=hint)
    if directory is not None:
        check_destination(directory, "--fetch")
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
    show_failures(session, output, end, printed)
    error = end_error(end)
    if directory is not None:
        fetched = fetch_job(session, end.job, FetchRequest(destination=directory))
        if output.mode is output.mode.TEXT:
            output.show(FetchedView(fetched))
        error = (fetched.error() if fetched.refused else None) or error
    run_hooks(session, output, end.job)
    if error is not None:
        raise error
