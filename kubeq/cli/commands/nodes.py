"""`kubeq nodes`: the nodes there are, and asking one to leave."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from kubeq.cli.main import Globals, global_options
from kubeq.errors import BackendError, NotFound, UsageError

if TYPE_CHECKING:
    from kubeq.actions.aborting import Stopped
    from kubeq.actions.session import Session


@click.command(short_help="List nodes; drain or stop them.")
@global_options
@click.option("--all", "every", is_flag=True, help="Also nodes that left more than an hour ago.")
@click.option("--drain", metavar="NODE", help="Ask a node to finish what it runs and to leave.")
@click.option("--stop", metavar="NODE|JOB", help="Stop a node, or all of a job's pool; what runs is given back.")
@click.argument("job", required=False)
@click.pass_obj
def command(settings: Globals, every: bool, drain: str | None, stop: str | None, job: str | None) -> None:
    """List the live and recently gone nodes, of JOB's pool or of every pool. NODE is a name or a number."""
    from kubeq.actions.finding import find_job
    from kubeq.actions.nodes import drain_node, find_node, list_nodes
    from kubeq.cli.views_nodes import NodesView

    session, output = settings.session, settings.output
    if drain is not None and stop is not None:
        raise UsageError("--drain and --stop contradict each other", hint="leave one of them out")
    if drain is not None:
        node = find_node(session, drain)
        drain_node(session, node)
        output.note(f"node {node.name} finishes what it runs and leaves")
    if stop is not None:
        stopped = _stop(session, stop)
        if stopped.left_over:
            raise BackendError(f"these nodes were asked to leave and are still there: {', '.join(stopped.left_over)}")
        output.note(f"stopped: {', '.join(stopped.asked) or 'nothing was running'}")
    found = list_nodes(session, find_job(session, job) if job is not None else None, every=every)
    output.show(NodesView(found, session.clock.now()))


def _stop(session: Session, text: str) -> Stopped:
    """The node of that name or number stopped; if there is none, the nodes of that job's pool."""
    from kubeq.actions.aborting import stop_nodes
    from kubeq.actions.finding import find_job
    from kubeq.actions.nodes import find_node

    with suppress(NotFound):
        node = find_node(session, text)
        return stop_nodes(session, node.pool, (node.name,))
    return stop_nodes(session, find_job(session, text).pool)
