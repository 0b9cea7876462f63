"""`kubeq report`: a job's counts, failures, nodes and durations."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import job_argument


@click.command(short_help="Sum up a job: failures, nodes, durations.")
@global_options
@job_argument()
@click.pass_obj
def command(settings: Globals, job: str) -> None:
    """Sum up JOB: how many tasks ended how, the first that failed with their last lines, what each node did, how long
    tasks ran. With --json it is what hooks get (`kubeq sub --notify`).
    """
    from kubeq.actions.finding import find_job
    from kubeq.actions.reporting import report_of
    from kubeq.cli.views_report import ReportView

    session = settings.session
    settings.output.show(ReportView(report_of(session, find_job(session, job))))
