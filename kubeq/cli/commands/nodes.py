"""`kubeq nodes`: the nodes there are, and asking one to leave."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import complete_job
from kubeq.core.model import NodeState
from kubeq.errors import BackendError, NotFound, UsageError

if TYPE_CHECKING:
    from kubeq.actions.aborting import Stopped
    from kubeq.actions.nodes import NodeFacts
    from kubeq.actions.session import Session
    from kubeq.core.model import Job, Node

SHOWN_S = 600.0
"""Nodes that left longer ago than this are shown on demand only."""
_LONGEST_NUMBER = 6
"""Digits; what is longer may be the beginning of a job's id."""


@click.command(short_help="List nodes; drain or stop them.")
@global_options
@click.option("--all", "every", is_flag=True, help="Also nodes that left more than 10 minutes ago.")
@click.option("--drain", metavar="NODE", help="Ask a node to finish what it runs and to leave.")
@click.option("--stop", metavar="NODE|JOB", help="Stop a node, or all of a job's pool; what runs is given back.")
@click.option("--orphans", is_flag=True, help="Only machines of yours in the cloud that no job needs.")
@click.argument("job", required=False, shell_complete=complete_job)
@click.pass_obj
def command(
    settings: Globals, every: bool, drain: str | None, stop: str | None, orphans: bool, job: str | None
) -> None:
    """List the live and recently gone nodes, of JOB's pool or of every pool. NODE is a node's name; with JOB its number
    will do, as in `kubeq nodes JOB --drain 2`. `--orphans` asks the cloud which machines of yours stand there that
    nobody needs; `--orphans --stop NODE` ends one, `--orphans --stop all` all of which this queue knows.
    """
    if orphans:
        if drain is not None or job is not None:
            raise UsageError("--orphans goes with --stop only", hint="kubeq nodes --orphans --stop all")
        _orphans(settings, stop)
        return
    from kubeq.actions.finding import find_job
    from kubeq.actions.nodes import drain_node, list_nodes
    from kubeq.actions.relaying import relay_facts
    from kubeq.cli.views_nodes import NodesView

    session, output = settings.session, settings.output
    if drain is not None and stop is not None:
        raise UsageError("--drain and --stop contradict each other", hint="leave one of them out")
    chosen = find_job(session, job) if job is not None else None
    if drain is not None:
        node = _find(session, drain, chosen, "--drain")
        drain_node(session, node)
        output.note(f"node {node.name} finishes what it runs and leaves")
    if stop is not None:
        stopped = _stop(session, stop, chosen)
        if stopped.left_over:
            raise BackendError(f"these nodes were asked to leave and are still there: {', '.join(stopped.left_over)}")
        output.note(f"stopped: {', '.join(stopped.asked) or 'nothing was running'}")
    now = session.clock.now()
    found = [facts for facts in list_nodes(session, chosen, every=every) if every or not _left_long_ago(facts, now)]
    output.show(NodesView(found, now, numbered=chosen is not None, relay=relay_facts(session)))


def _orphans(settings: Globals, stop: str | None) -> None:
    """Show the orphans, and end those that are named once the user agrees."""
    from kubeq.actions.orphans import chosen, find_orphans, stop_orphans
    from kubeq.cli.asking import confirm
    from kubeq.cli.shown import count
    from kubeq.cli.views_nodes import OrphansView

    session, output = settings.session, settings.output
    found = find_orphans(session)
    output.show(OrphansView(found, session.queue.now()))
    if stop is None:
        return
    ending = chosen(found, stop)
    if ending and confirm(settings, f"end {count(len(ending), 'machine')}?"):
        stop_orphans(ending)
        output.note(f"told to end: {', '.join(orphan.owned.name for orphan in ending)}")


def _find(session: Session, text: str, job: Job | None, option: str) -> Node:
    """The live node of that name, or of that number in the job's pool. Raises UsageError for a number without a job."""
    from kubeq.actions.nodes import find_node, list_nodes

    if not _is_number(text):
        return find_node(session, text)
    if job is None:
        raise UsageError(
            f"{option} {text}: every pool has a node of such a number",
            hint=f"write the node's name, or its job: kubeq nodes JOB {option} {text}",
        )
    for facts in list_nodes(session, job):
        if facts.node.number == int(text) and facts.node.state is not NodeState.GONE:
            return facts.node
    raise NotFound(f"job {job.name} has no live node {text}", hint=f"kubeq nodes {job.id} lists them")


def _stop(session: Session, text: str, job: Job | None) -> Stopped:
    """The node of that name or number stopped; if there is none, the nodes of that job's pool."""
    from kubeq.actions.aborting import stop_nodes
    from kubeq.actions.finding import find_job

    if _is_number(text):
        node = _find(session, text, job, "--stop")
        return stop_nodes(session, node.pool, (node.name,))
    with suppress(NotFound):
        node = _find(session, text, job, "--stop")
        return stop_nodes(session, node.pool, (node.name,))
    return stop_nodes(session, find_job(session, text).pool)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER


def _left_long_ago(facts: NodeFacts, now: float) -> bool:
    node = facts.node
    return node.state is NodeState.GONE and (node.ended_at or 0.0) < now - SHOWN_S
