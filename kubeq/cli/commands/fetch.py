"""`kubeq fetch`: results into a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import FilePath, choice_of, filter_options, job_argument


@click.command(short_help="Fetch results into a directory.")
@global_options
@filter_options
@click.option("--flat", is_flag=True, help="All files in one directory, as INDEX-PATH with - for /.")
@click.option("--results", "patterns", multiple=True, metavar="GLOB", help="Only files that match. Repeatable.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="What that attempt stored, not the result.")
@click.option("--follow", is_flag=True, help="Go on until the job has ended.")
@job_argument(metavar="JOB|TASK")
@click.argument("directory", required=False, metavar="[DIR]", type=FilePath())
@click.pass_obj
def command(settings: Globals, /, job: str, directory: Path | None, patterns: tuple[str, ...], **flags: Any) -> None:
    """Fetch what the tasks of JOB (or JOB/1-10,20) stored into DIR/INDEX/, with stdout.txt and result.json beside it.
    DIR is ./NAME if it is not given.

    May be repeated and interrupted: only what is missing is moved, everything is verified, and no file that somebody
    else wrote or changed is overwritten. Exit code 3 if some tasks have no results.
    """
    from kubeq.actions.fetch import FetchRequest, default_destination, fetch_job
    from kubeq.actions.finding import find_stored
    from kubeq.cli.interrupts import interruptible
    from kubeq.cli.views_fetch import FetchedView, FetchProgress

    session, choice = settings.session, choice_of(flags)
    chosen = find_stored(session, job)
    progress = FetchProgress(settings.output, chosen.job.total)
    request = FetchRequest(
        destination=directory or default_destination(session, chosen.job),
        choice=choice,
        indexes=chosen.indexes,
        flat=flags["flat"],
        results=patterns,
        attempt=flags["attempt"],
        follow=flags["follow"],
        progress=progress.there,
    )
    try:
        with interruptible():
            fetched = fetch_job(session, chosen.job, request)
    finally:
        progress.hide()
    settings.output.show(FetchedView(fetched))
    error = fetched.error()
    if error is not None:
        raise error
