"""`kubeq check`: try everything that jobs depend on, for real."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.core.table_rules import listing
from kubeq.errors import BackendError


@click.command(short_help="Try everything that jobs depend on, for real.")
@global_options
@click.option("--node", is_flag=True, help="Also start a node, let it run a task, and stop it.")
@click.pass_obj
def command(settings: Globals, node: bool) -> None:
    """Write, read, list and remove a probe in the store and in the queue, hold the clocks against each other, ask the
    engine for the image: each passes or fails, with what mends it. Nothing is left behind. Exit code 6 if any fails.
    """
    from kubeq.actions.checking import check
    from kubeq.cli.views_check import CheckView

    view = CheckView(check(settings.open_session(settings.config), node=node))
    settings.output.show(view)
    if view.failed:
        raise BackendError(f"not everything works: {listing(view.failed)} failed")
