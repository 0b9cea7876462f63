"""`kubeq show`: everything that is known of a job or a task."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import job_argument
from kubeq.errors import UsageError


@click.command(short_help="Show everything known of a job or a task.")
@global_options
@job_argument("text", metavar="JOB|TASK")
@click.pass_obj
def command(settings: Globals, text: str) -> None:
    """Show the whole record of JOB, or of the task JOB/17 with its attempts and what it stored."""
    from kubeq.actions.facts import inputs_of, job_facts, list_tasks, nodes_during, result_of, skipped_of
    from kubeq.actions.finding import find_stored
    from kubeq.actions.status import summarize
    from kubeq.cli.views_show import JobShowView, TaskShowView

    session = settings.session
    chosen = find_stored(session, text)
    facts = job_facts(session, chosen.job)
    if chosen.whole:
        (summary,) = summarize(session, [chosen.job])
        skipped = skipped_of(session, chosen.job)
        inputs = inputs_of(session, facts)
        nodes = nodes_during(session, chosen.job)
        settings.output.show(JobShowView(summary, facts, inputs, None if skipped is None else skipped.files, nodes))
        return
    tasks = list(list_tasks(session, chosen, facts=facts))
    if len(tasks) != 1:
        raise UsageError(f"{text!r} names {len(tasks)} tasks; show takes one", hint=f"kubeq list {text}")
    task = tasks[0].task
    inputs, result = inputs_of(session, facts, task), result_of(session, task)
    settings.output.show(TaskShowView(chosen.job.name, tasks[0], inputs, result))
