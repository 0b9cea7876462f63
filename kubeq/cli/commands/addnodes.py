"""`kubeq addnodes`: more nodes for a job's pool."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.errors import UsageError


@click.command(short_help="Start more nodes for a job.")
@global_options
@click.argument("words", metavar="N [JOB]", nargs=-1)
@click.pass_obj
def command(settings: Globals, words: tuple[str, ...]) -> None:
    """Start N more nodes in the pool of JOB, or in the pool that new jobs share. `addnodes JOB N` is understood too."""
    from kubeq.actions.finding import find_job
    from kubeq.actions.launching import add_nodes, pool_of_job, pool_of_request
    from kubeq.actions.nodes import check_count
    from kubeq.cli.spending import agree_to_more
    from kubeq.cli.starting import hinting
    from kubeq.cli.views_sub import LaunchedView

    number, text = _split(words)
    count = check_count(number)
    session = settings.session
    job = find_job(session, text) if text is not None else None
    pool = pool_of_job(session, job) if job is not None else pool_of_request(session, private=False)
    agree_to_more(settings, pool, count)
    with hinting(job):
        names = add_nodes(session, pool, count, settings.output.warn, job)
    settings.output.show(LaunchedView(names))


def _split(words: tuple[str, ...]) -> tuple[str, str | None]:
    """The number and the job, in either order; the first word is the number if both could be."""
    if not 1 <= len(words) <= 2:
        raise UsageError("addnodes takes a number of nodes and perhaps a job", hint="kubeq addnodes 2 LAST")
    if len(words) == 2 and not words[0].isdigit() and words[1].isdigit():
        return words[1], words[0]
    return words[0], words[1] if len(words) == 2 else None
