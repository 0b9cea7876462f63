"""`kubeq hosts`: the user's own hosts, checked one by one."""

from __future__ import annotations

from pathlib import Path

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import FilePath
from kubeq.errors import BackendError


@click.command(short_help="Check the hosts of a hosts file.")
@global_options
@click.argument("file", required=False, metavar="[FILE]", type=FilePath())
@click.pass_obj
def command(settings: Globals, file: Path | None) -> None:
    """Log in to every host of FILE (default: those of the configuration) and tell what it has: its machine, Python,
    Docker, cores, free space; or why it cannot be used. Nothing is started. Exit code 6 if some host cannot be used.
    """
    from kubeq.actions.hosts import look_at_hosts
    from kubeq.cli.views_hosts import HostsView

    seen = look_at_hosts(settings.session, file)
    settings.output.show(HostsView(seen))
    bad = [each for each in seen if each.problem is not None]
    if bad:
        raise BackendError(f"{len(bad)} of {len(seen)} hosts cannot be used: {', '.join(each.name for each in bad)}")
