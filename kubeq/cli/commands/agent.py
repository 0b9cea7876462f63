"""`kubeq agent`: what to type to make a machine a node by hand."""

from __future__ import annotations

import click

from kubeq.cli.main import Globals, global_options


@click.command(short_help="Print the command that starts an agent by hand.")
@global_options
@click.argument("job", required=False)
@click.pass_obj
def command(settings: Globals, job: str | None) -> None:
    """Print one line that makes the machine it is typed on a node of JOB's pool, or of the pool that new jobs share.

    Every call prints another node: run each line once.
    """
    from kubeq.actions.finding import find_job
    from kubeq.actions.launching import agent_line, pool_of_job, pool_of_request
    from kubeq.cli.views_sub import AgentView

    session = settings.session
    pool = pool_of_request(session, private=False) if job is None else pool_of_job(session, find_job(session, job))
    settings.output.show(AgentView(agent_line(session, pool), pool.id))
