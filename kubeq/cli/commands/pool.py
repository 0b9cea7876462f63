"""`kubeq pool`: nodes by hand, for no job in particular."""

from __future__ import annotations

from pathlib import Path

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import FilePath
from kubeq.errors import BackendError, UsageError


@click.command(short_help="Start or stop nodes by hand.")
@global_options
@click.option("--write", type=FilePath(), metavar="FILE", help="With up: write the nodes' addresses there.")
@click.argument("action", metavar="up|down", type=click.Choice(["up", "down"]))
@click.argument("count", metavar="[N]", required=False)
@click.pass_obj
def command(settings: Globals, action: str, count: str | None, write: Path | None) -> None:
    """`pool up N`: start N more nodes (default 1) of the pool that new jobs share. They linger like any other, so give
    them work, or set `linger` and `linger_others` longer. `pool down`: stop all of that pool; what runs is given back.
    """
    from kubeq.actions.aborting import stop_nodes
    from kubeq.actions.folders import check_file
    from kubeq.actions.launching import add_nodes, pool_of_request
    from kubeq.actions.nodes import check_count, write_addresses
    from kubeq.cli.spending import agree_to_more
    from kubeq.cli.starting import hinting
    from kubeq.cli.views_sub import LaunchedView

    session, output = settings.session, settings.output
    pool = pool_of_request(session, private=False)
    if action == "up":
        number = check_count(count or "1")
        if write is not None:
            check_file(write, "--write")
        agree_to_more(settings, pool, number)
        with hinting():
            names = add_nodes(session, pool, number, output.warn)
        if write is not None:
            without = write_addresses(session, pool.id, names, write)
            if without:
                output.warn(f"no address is known yet of {', '.join(without)}")
        output.show(LaunchedView(names))
        return
    if count is not None or write is not None:
        raise UsageError("pool down stops all of the pool's nodes", hint="kubeq nodes --stop NODE stops one")
    stopped = stop_nodes(session, pool.id)
    output.note(f"stopped: {', '.join(stopped.asked) or 'nothing was running'}")
    if stopped.left_over:
        raise BackendError(f"these nodes were asked to leave and are still there: {', '.join(stopped.left_over)}")
