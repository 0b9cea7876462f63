"""`kubeq resume`: go on with a job."""

from __future__ import annotations

from functools import partial

import click

from kubeq.cli.global_options import Globals, global_options


@click.command(short_help="Go on with a paused or interrupted job.")
@global_options
@click.argument("job")
@click.pass_obj
def command(settings: Globals, job: str) -> None:
    """Complete JOB's submission if that was interrupted, let its tasks be claimed if it was paused, and start a node
    if none is there; then return. `kubeq watch JOB` follows it.
    """
    from kubeq.actions.finding import find_job
    from kubeq.actions.resume import resume
    from kubeq.cli.hooks_shown import leave_watcher, run_hooks
    from kubeq.cli.spending import agree_to_nodes
    from kubeq.cli.starting import hinting
    from kubeq.cli.views_sub import ResumedView

    found = find_job(settings.session, job)
    with hinting(found):
        resumed = resume(settings.session, found, say=settings.output.warn, agree=partial(agree_to_nodes, settings))
    settings.output.show(ResumedView(resumed))
    run_hooks(settings.session, settings.output, resumed.job)
    if resumed.job.open:
        leave_watcher(settings.session, settings.output, resumed.job)
        settings.output.note(f"kubeq watch {resumed.job.id} follows it")
