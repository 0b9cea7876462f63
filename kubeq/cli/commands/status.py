"""`kubeq status`: how jobs stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import job_argument

if TYPE_CHECKING:
    from kubeq.actions.finding import Choice
    from kubeq.actions.session import Session
    from kubeq.actions.status import JobSummary
    from kubeq.cli.views_tasks import TasksView


@click.command(short_help="Show jobs, or one job with its nodes.")
@global_options
@click.option("--failed", is_flag=True, help="Also every failed task, with its reason.")
@click.option("--tasks", is_flag=True, help="Also every task.")
@job_argument("jobs", many=True, required=False)
@click.pass_obj
def command(settings: Globals, jobs: tuple[str, ...], tasks: bool, failed: bool) -> None:
    """Show every job, or the JOBs named: counts by outcome, and why what waits is waiting.

    JOB is an id, the beginning of one, a name (the newest job of it), a quoted pattern, or LAST.
    """
    from kubeq.actions.finding import EVERYTHING, Choice, find_jobs
    from kubeq.actions.nodes import nodes_behind
    from kubeq.actions.status import summarize
    from kubeq.cli.shown import warn_of_orphans
    from kubeq.cli.views_jobs import JobsView, JobView
    from kubeq.core.model import TaskState
    from kubeq.core.selectors import Filters

    session = settings.session
    summaries = summarize(session, find_jobs(session, jobs))
    choice = Choice(filters=Filters(states=frozenset({TaskState.FAILED}))) if failed else EVERYTHING
    shown = [_tasks(session, summary, choice) for summary in summaries] if tasks or failed else []
    now = session.queue.now()
    if len(jobs) == 1 and len(summaries) == 1:
        running = bool(summaries[0].tasks[TaskState.CLAIMED])
        nodes = nodes_behind(session, summaries[0].job, running=running)
        settings.output.show(JobView(summaries[0], nodes, now, shown[0] if shown else None))
        warn_of_orphans(settings.output, [facts.node.name for facts in nodes if facts.orphaned])
    else:
        settings.output.show(JobsView(summaries, now, shown))


def _tasks(session: Session, summary: JobSummary, choice: Choice) -> TasksView:
    from kubeq.actions.facts import list_tasks
    from kubeq.actions.finding import Chosen
    from kubeq.cli.views_tasks import TasksView
    from kubeq.core.selectors import Indexes

    job = summary.job
    return TasksView(job.id, job.columns, list(list_tasks(session, Chosen(job, Indexes()), choice)))
