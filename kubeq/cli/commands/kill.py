"""`kubeq kill`: cancel jobs or tasks."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import job_argument


@click.command(short_help="Cancel a job or some of its tasks.")
@global_options
@click.option("--stop-nodes", is_flag=True, help="Then stop its nodes, unless another job needs them.")
@job_argument("texts", many=True, metavar="JOB|TASK")
@click.pass_obj
def command(settings: Globals, texts: tuple[str, ...], stop_nodes: bool) -> None:
    """Cancel JOB, or the tasks JOB/1-10,20: nothing of it starts any more, and what runs is stopped within a renewal.

    What has ended keeps its outcome; a second kill changes nothing.
    """
    from kubeq.actions.changing import kill
    from kubeq.actions.finding import find_chosen
    from kubeq.cli.stopping import stop_pools
    from kubeq.cli.views_changes import ChangesView

    session = settings.session
    jobs = [chosen.job for chosen in find_chosen(session, texts)] if stop_nodes else []
    settings.output.show(ChangesView("killed", kill(session, texts)))
    stop_pools(session, settings.output, jobs)
