"""`kubeq agent`: what to type to make a machine a node by hand."""

from __future__ import annotations

import click

from kubeq.cli.main import Globals, global_options


@click.command(short_help="Print the command that starts an agent by hand.")
@global_options
@click.option("--print-boot", is_flag=True, help="Print all that a fresh machine would run, and nothing else.")
@click.argument("job", required=False)
@click.pass_obj
def command(settings: Globals, print_boot: bool, job: str | None) -> None:
    """Print what makes a machine a node of JOB's pool, or of the pool that new jobs share.

    Where queue and store are on this machine that is one line, to be typed here. Where any machine can see them, there
    are ways for others too: the agent's archive, which is stored beside the inputs and needs Python 3.11 or newer, and
    its image, which needs Docker. Nothing that is printed holds a credential.

    Every call prints another node: use one of its lines, once.
    """
    from kubeq.actions.agents import agent_by_hand
    from kubeq.actions.finding import find_job
    from kubeq.actions.launching import pool_of_job, pool_of_request
    from kubeq.cli.views_agent import AgentView

    session = settings.session
    pool = pool_of_request(session, private=False) if job is None else pool_of_job(session, find_job(session, job))
    settings.output.show(AgentView(agent_by_hand(session, pool), pool.id, print_boot=print_boot))
