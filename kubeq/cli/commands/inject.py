"""`kubeq inject`: a package for every node of a pool."""

from __future__ import annotations

from pathlib import Path

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import FilePath, complete_job


@click.command(short_help="Unpack a package on every node and start it there.")
@global_options
@click.option(
    "--entry", metavar="FILE", help="Program to start, a path inside. Default: kubeq-launch or vcloud-launch."
)
@click.option("--again", is_flag=True, help="Unpack and start it again where that was done before.")
@click.argument("source", metavar="DIR|ARCHIVE", type=FilePath())
@click.argument("job", metavar="[JOB]", required=False, shell_complete=complete_job)
@click.pass_obj
def command(settings: Globals, source: Path, job: str | None, entry: str | None, again: bool) -> None:
    """Unpack a directory or a tar archive on every node of the pool that new jobs share (of JOB's pool), also on nodes
    that come later, and start its kubeq-launch there, once a node. `kubeq logs NODE` shows what it prints.
    """
    from kubeq.actions.finding import find_job
    from kubeq.actions.injecting import inject
    from kubeq.actions.launching import pool_of_job, pool_of_request
    from kubeq.cli.views_nodes import InjectedView

    session = settings.session
    found = find_job(session, job) if job is not None else None
    pool = pool_of_job(session, found) if found is not None else pool_of_request(session, private=False)
    settings.output.show(InjectedView(inject(session, pool, source, entry=entry, again=again)))
