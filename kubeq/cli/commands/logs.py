"""`kubeq logs`: what tasks printed, and what nodes logged."""

from __future__ import annotations

from typing import Any

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import job_argument
from kubeq.errors import UsageError


@click.command(short_help="Print what a task printed, also while it runs.")
@global_options
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended, over all its attempts.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="That attempt, not the latest.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines (with -f: to begin with).")
@click.option("--all", "every", is_flag=True, help="Every task, each line with its index before it.")
@click.option("--grep", metavar="RE", help="Only lines in which the regular expression is found.")
@click.option("--timestamps", is_flag=True, help="With -f: the time at which each line came before it.")
@job_argument("text", metavar="TASK|JOB|NODE")
@click.pass_obj
def command(settings: Globals, /, text: str, grep: str | None, **flags: Any) -> None:
    """Print the output of a task (JOB/17) byte for byte. Of a JOB of several tasks it is that of the first that runs,
    else of the first that failed, else of the first. Of a NODE its own log, then all that it ran.
    """
    from kubeq.actions.lines import parse_pattern
    from kubeq.cli.log_printing import LineRules
    from kubeq.cli.logs_shown import LogRequest, show_logs

    if flags["timestamps"] and not flags["follow"]:
        raise UsageError("stored output has no times; --timestamps needs -f", hint="add -f, or leave it out")
    if flags["every"] and flags["follow"]:
        raise UsageError("-f follows one task", hint="kubeq watch JOB --logs follows all of them")
    pattern = None if grep is None else parse_pattern(grep)
    rules = LineRules(pattern=pattern, tail=flags["tail"], timestamps=flags["timestamps"], prefixed=flags["every"])
    request = LogRequest(rules=rules, attempt=flags["attempt"], every=flags["every"], follow=flags["follow"])
    show_logs(settings.session, settings.output, text, request)
