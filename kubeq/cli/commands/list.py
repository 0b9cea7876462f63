"""`kubeq list`: the tasks of a job as records."""

from __future__ import annotations

from typing import Any

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import choice_of, filter_options, job_argument
from kubeq.errors import UsageError


@click.command(short_help="List the tasks of a job.")
@global_options
@filter_options
@click.option("--fields", metavar="LIST", help="Columns: fields and parameters, e.g. task,state,exit,wall_s.")
@click.option("--params-only", is_flag=True, help="Only the parameters, as a csv table for `sub --params`.")
@job_argument(metavar="JOB|TASK")
@click.pass_obj
def command(settings: Globals, /, job: str, fields: str | None, params_only: bool, **flags: Any) -> None:
    """List the tasks of JOB, or JOB/1-10,20; filters of different kinds must all agree.

    In --where, a name is a field (index state reason exit signal attempt failures losses node wall_s cpu_s
    peak_memory_bytes) or else a parameter; param.NAME is always the parameter.
    """
    from kubeq.actions.facts import list_tasks
    from kubeq.actions.finding import find_stored, tasks_of
    from kubeq.cli.views_tasks import ParametersView, TasksView, check_fields

    choice, session = choice_of(flags), settings.session
    chosen = find_stored(session, job)
    columns = chosen.job.columns
    if params_only and fields is not None:
        raise UsageError("--params-only and --fields contradict each other", hint="leave one of them out")
    if params_only and not columns:
        raise UsageError(f"the tasks of job {chosen.job.name} have no parameters", hint=f"kubeq list {job}")
    if params_only:
        settings.output.show(ParametersView(columns, list(tasks_of(session, chosen, choice))))
        return
    names = () if fields is None else check_fields(fields, columns)
    settings.output.show(TasksView(chosen.job.id, columns, list(list_tasks(session, chosen, choice)), names))
