"""`kubeq addnodes`: more nodes for a job's pool, or as many as a job is to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import complete_job
from kubeq.errors import UsageError

if TYPE_CHECKING:
    from kubeq.actions.wishes import Asked


@click.command(short_help="Start more nodes for a job, or change how many it has.")
@global_options
@click.option("--to", metavar="N", help="JOB is to have N nodes from now on: missing ones are started, others leave.")
@click.option("-m", "--machine-type", multiple=True, metavar="TYPE", help="Type of these machines. Repeatable.")
@click.option("--spot/--no-spot", default=None, help="These machines may be taken back and cost less, or may not.")
@click.option(
    "--hosts", multiple=True, metavar="LIST|FILE", help="On these hosts of yours, which join the pool. Repeatable."
)
@click.argument("words", metavar="N [JOB]", nargs=-1, shell_complete=complete_job)
@click.pass_obj
def command(
    settings: Globals,
    words: tuple[str, ...],
    to: str | None,
    machine_type: tuple[str, ...],
    spot: bool | None,
    hosts: tuple[str, ...],
) -> None:
    """Start N more nodes in the pool of JOB, or in the pool that new jobs share. `addnodes JOB N` is understood too.

    `addnodes --to N JOB` changes how many nodes JOB is to have, also while it runs. No task is stopped for it: first
    those nodes go that have not begun, then those that are idle, then the newest when what they run has ended.

    -m, --spot and --hosts say what the nodes of this call are; their pool stays what it is for all others.
    """
    from kubeq.actions.wishes import Asked
    from kubeq.config import with_flags

    flags = with_flags(settings.config, {"machine_type": machine_type, "hosts": hosts})
    asked = Asked(types=flags.machine_type if machine_type else (), spot=spot, hosts=flags.hosts if hosts else ())
    if to is None:
        _add(settings, *_split(words), asked)
    else:
        _set(settings, to, _only_job(words), asked)


def _add(settings: Globals, number: str, text: str | None, asked: Asked) -> None:
    from kubeq.actions.finding import find_job
    from kubeq.actions.launching import add_nodes, pool_of_job, pool_of_request
    from kubeq.actions.nodes import check_count
    from kubeq.actions.wishes import wished
    from kubeq.cli.spending import agree_to_more
    from kubeq.cli.starting import hinting
    from kubeq.cli.views_sub import LaunchedView

    session, output, count = settings.session, settings.output, check_count(number)
    job = find_job(session, text) if text is not None else None
    pool = pool_of_job(session, job) if job is not None else pool_of_request(session, private=False)
    pool, wish = wished(session, pool, asked, output.warn)
    agree_to_more(settings, pool, count, wish)
    with hinting(job):
        names = add_nodes(session, pool, count, output.warn, job, wish)
    output.show(LaunchedView(names))


def _set(settings: Globals, number: str, text: str, asked: Asked) -> None:
    from kubeq.actions.finding import find_job
    from kubeq.actions.launching import pool_of_job
    from kubeq.actions.nodes import check_count
    from kubeq.actions.targets import check_target, retarget, wished_for_missing
    from kubeq.cli.spending import agree_to_more
    from kubeq.cli.starting import hinting
    from kubeq.cli.views_sub import RetargetedView

    session, output = settings.session, settings.output
    if number == "0":
        raise UsageError(
            "a job cannot be told to have no nodes",
            hint=f"kubeq nodes --stop {text} stops them; kubeq pause {text} has nothing more begun",
        )
    count, job = check_count(number), find_job(session, text)
    check_target(job)
    pool, wish, missing = wished_for_missing(session, pool_of_job(session, job), job, count, asked, output.warn)
    if missing:
        agree_to_more(settings, pool, missing, wish)
    most = None if settings.yes or pool.machines is None else missing
    with hinting(job):
        done = retarget(session, pool, job, count, output.warn, wish, most=most)
    output.show(RetargetedView(done))


def _only_job(words: tuple[str, ...]) -> str:
    if not words:
        raise UsageError(
            "--to says how many nodes a job is to have, so name the job", hint="kubeq addnodes --to 3 LAST"
        )
    if len(words) > 1:
        raise UsageError(
            "--to is the number of nodes, so only the job is named beside it", hint="kubeq addnodes --to 3 LAST"
        )
    return words[0]


def _split(words: tuple[str, ...]) -> tuple[str, str | None]:
    """The number and the job, in either order; the first word is the number if both could be."""
    if not 1 <= len(words) <= 2:
        raise UsageError("addnodes takes a number of nodes and perhaps a job", hint="kubeq addnodes 2 LAST")
    if len(words) == 2 and not words[0].isdigit() and words[1].isdigit():
        return words[1], words[0]
    return words[0], words[1] if len(words) == 2 else None
