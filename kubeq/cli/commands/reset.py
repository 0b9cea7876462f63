"""`kubeq reset`: make tasks pending again."""

from __future__ import annotations

from typing import Any

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import choice_of, filter_options, job_argument, other_resources
from kubeq.core.selectors import is_glob
from kubeq.errors import Conflict


@click.command(short_help="Make failed, cancelled or lost tasks pending again.")
@global_options
@filter_options
@click.option("--all", "every", is_flag=True, help="Succeeded tasks too.")
@click.option("--orphaned", is_flag=True, help="Only claims whose lease has ended.")
@click.option("--node", metavar="NODE", help="Only claims of that node.")
@click.option("--force", is_flag=True, help="Also claims of nodes that are alive; those attempts are stopped.")
@click.option("-r", "--resources", metavar="LIST", help="Other resources for these tasks: cpu=2,memory=4G.")
@click.option("--no-nodes", is_flag=True, help="Start no node for them.")
@job_argument("texts", many=True, metavar="JOB|TASK")
@click.pass_obj
def command(settings: Globals, /, texts: tuple[str, ...], no_nodes: bool, **flags: Any) -> None:
    """Make tasks of JOB pending again: those that failed or were cancelled, and claims whose lease has ended. A task
    named by its number (JOB/17) is reset also if it succeeded.

    A pattern that matches several jobs resets only claims whose lease has ended, unless --all or a filter is given.
    """
    from kubeq.actions.changing import ResetRequest, reset
    from kubeq.cli.hooks_shown import leave_watcher
    from kubeq.cli.starting import start_nodes
    from kubeq.cli.views_changes import ChangesView
    from kubeq.core.model import NodeName

    session, config = settings.session, settings.config
    request = ResetRequest(
        choice=choice_of(flags),
        orphaned=flags["orphaned"],
        all=flags["every"],
        force=flags["force"],
        node=None if flags["node"] is None else NodeName(flags["node"]),
        resources=other_resources(flags["resources"], config.task_resources),
    )
    changes = reset(session, texts, request)
    settings.output.show(ChangesView("reset", changes))
    if not no_nodes:
        start_nodes(settings, changes.jobs)
    for job in changes.jobs:
        leave_watcher(session, settings.output, job)
    if not changes.changed and not any(map(is_glob, texts)):
        raise Conflict(
            "nothing was reset: no task that was meant has failed, was cancelled or is lost",
            hint="--all resets succeeded tasks too, --force also what runs",
        )
