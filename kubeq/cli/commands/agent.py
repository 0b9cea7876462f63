"""`kubeq agent`: what to type to make a machine a node by hand."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options


@click.command(short_help="Print the command that starts an agent by hand.")
@global_options
@click.option("--print-boot", is_flag=True, help="Print all that a fresh machine would run, and nothing else.")
@click.option("--relay", is_flag=True, help="For a node that reaches nothing here but the relay's socket.")
@click.argument("job", required=False)
@click.pass_obj
def command(settings: Globals, print_boot: bool, relay: bool, job: str | None) -> None:
    """Print what makes a machine a node of JOB's pool, or of the pool that new jobs share.

    Where queue and store are on this machine that is one line, to be typed here. Where any machine can see them, there
    are ways for others too: the agent's archive, which is stored beside the inputs and needs Python 3.11 or newer, and
    its image, which needs Docker. Nothing that is printed holds a credential.

    With --relay a node needs no access to queue and store of this machine: it is given the address of the relay, which
    is started if need be, and the name of a file with a token.

    Every call prints another node: use one of its lines, once.
    """
    from kubeq.actions.agents import agent_by_hand, relayed_by_hand
    from kubeq.actions.finding import find_job
    from kubeq.actions.launching import pool_of_job, pool_of_request
    from kubeq.cli.views_agent import AgentView

    session = settings.session
    pool = pool_of_request(session, private=False) if job is None else pool_of_job(session, find_job(session, job))
    by_hand = relayed_by_hand(session, pool) if relay else agent_by_hand(session, pool)
    if by_hand.relay is not None:
        settings.output.note(f"the relay listens at {by_hand.relay.socket}, the token is in {by_hand.relay.token_file}")
    settings.output.show(AgentView(by_hand, pool.id, print_boot=print_boot))
