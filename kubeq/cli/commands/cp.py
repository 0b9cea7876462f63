"""`kubeq cp`: files from and to nodes."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.errors import BackendError


@click.command(short_help="Copy files from or to nodes.")
@global_options
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DEST")
@click.pass_obj
def command(settings: Globals, source: str, destination: str) -> None:
    """Copy a file or a directory: NODE:PATH to a place here, or a path here to NODE:PATH. With `all:PATH` from every
    live node into DEST/NODE/, or to every one. A path that does not begin with / starts from the home directory there.
    """
    from kubeq.actions.copying import copy
    from kubeq.cli.views_nodes import CopiedView

    copied = copy(settings.session, source, destination)
    settings.output.show(CopiedView(tuple(copied)))
    failed = [each for each in copied if each.error is not None]
    if failed:
        first = failed[0]
        raise BackendError(
            f"{len(failed)} of {len(copied)} copies failed; node {first.node}: {first.error}",
            hint=f"kubeq connect {first.node} opens a shell there",
        )
