"""`kubeq pause`: no new claims."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import job_argument


@click.command(short_help="Let nothing more of a job start, for now.")
@global_options
@click.option(
    "--stop-nodes", is_flag=True, help="Then stop its nodes, unless another job needs them; what runs is given back."
)
@job_argument("texts", many=True)
@click.pass_obj
def command(settings: Globals, texts: tuple[str, ...], stop_nodes: bool) -> None:
    """Let no task of JOB be claimed any more; what runs goes on to its end. `kubeq resume JOB` lets it go on.

    Nodes that find nothing else to do leave as they do after the last task.
    """
    from kubeq.actions.changing import pause
    from kubeq.actions.finding import find_jobs
    from kubeq.cli.stopping import stop_pools
    from kubeq.cli.views_changes import PausedView

    session = settings.session
    jobs = find_jobs(session, texts) if stop_nodes else []
    settings.output.show(PausedView(pause(session, texts)))
    stop_pools(session, settings.output, jobs)
