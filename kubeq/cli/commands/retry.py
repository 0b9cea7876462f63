"""`kubeq retry`: run again what failed, and follow it to the end."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import complete_job, other_resources
from kubeq.errors import Interrupted


@click.command(short_help="Run again what failed, and wait.")
@global_options
@click.option("-r", "--resources", metavar="LIST", help="Other resources for these tasks: cpu=2,memory=4G.")
@click.argument("job", metavar="JOB", shell_complete=complete_job)
@click.pass_obj
def command(settings: Globals, job: str, resources: str | None) -> None:
    """Make the failed tasks of JOB pending again (`reset --failed`), start nodes for them as needed, and follow the job
    to its end; the exit code says how that was. A job without a failed task is only followed.
    """
    from kubeq.actions.changing import ResetRequest, reset
    from kubeq.actions.finding import Choice, find_job
    from kubeq.actions.tending import tending_of
    from kubeq.cli.following import end_error, show_failures, tell_end, wait_for_end
    from kubeq.cli.hooks_shown import leave_watcher, run_hooks
    from kubeq.cli.interrupts import interruptible
    from kubeq.cli.output import Mode
    from kubeq.cli.starting import agree_to_retry, start_nodes
    from kubeq.cli.views_changes import ChangesView
    from kubeq.core.model import TaskState
    from kubeq.core.selectors import Filters

    session, output = settings.session, settings.output
    found = find_job(session, job)
    failed = Choice(filters=Filters(states=frozenset({TaskState.FAILED})))
    wanted = ResetRequest(choice=failed, resources=other_resources(resources, settings.config.task_resources))
    agree_to_retry(settings, found)
    changes = reset(session, [found.id], wanted)
    if output.mode is not Mode.JSON:
        output.show(ChangesView("retrying", changes))
    try:
        with interruptible():
            start_nodes(settings, changes.jobs, asked=True)
            end = wait_for_end(
                session,
                session.queue.refresh(found),
                output,
                tend=tending_of(session, found, output.note),
                printing=False,
            )
    except KeyboardInterrupt:
        leave_watcher(session, output, found)
        raise Interrupted(
            f"not waiting any more; job {found.id} ({found.name}) goes on", hint=f"kubeq watch {found.id} waits again"
        ) from None
    tell_end(output, end)
    show_failures(session, output, end, None)
    if output.mode is Mode.JSON:
        output.show(ChangesView("retried", changes))
    run_hooks(session, output, end.job)
    if (error := end_error(end)) is not None:
        raise error
