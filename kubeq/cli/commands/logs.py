"""`kubeq logs`: what tasks printed, and what nodes logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kubeq.cli.job_options import job_argument
from kubeq.cli.main import Globals, global_options
from kubeq.errors import NotFound, UsageError

if TYPE_CHECKING:
    from kubeq.actions.finding import Chosen
    from kubeq.cli.log_printing import LogPrinter
    from kubeq.core.model import NodeName


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
def command(
    settings: Globals,
    text: str,
    follow: bool,
    attempt: int | None,
    tail: int | None,
    every: bool,
    grep: str | None,
    timestamps: bool,
) -> None:
    """Print the output of a task (JOB/17) byte for byte. Of a JOB of several tasks it is that of the first that runs,
    else of the first that failed, else of the first. Of a NODE of this machine, its log.
    """
    from kubeq.actions.finding import find_one
    from kubeq.actions.lines import parse_pattern
    from kubeq.cli.log_printing import LineRules, LogPrinter
    from kubeq.core.model import NodeName

    if timestamps and not follow:
        raise UsageError("stored output has no times; --timestamps needs -f", hint="add -f, or leave it out")
    if every and follow:
        raise UsageError("-f follows one task", hint="kubeq watch JOB --logs follows all of them")
    pattern = None if grep is None else parse_pattern(grep)
    rules = LineRules(pattern=pattern, tail=tail, timestamps=timestamps, prefixed=every)
    printer = LogPrinter(settings.output, settings.session.clock, rules, follow=follow)
    try:
        chosen = find_one(settings.session, text)
    except NotFound:
        if "/" in text:
            raise
        _print_node(settings, NodeName(text), follow, printer)
        return
    _print_tasks(settings, chosen, attempt, every, follow, printer)


def _print_tasks(
    settings: Globals, chosen: Chosen, attempt: int | None, every: bool, follow: bool, printer: LogPrinter
) -> None:
    from kubeq.actions.finding import tasks_of
    from kubeq.actions.logs import follow_output, pick_task, read_output

    session = settings.session
    if every:
        for task in tasks_of(session, chosen):
            if task.attempt >= (attempt or 1):
                printer.begin(task.id, attempt or task.attempt)
                for piece in read_output(session, task, attempt):
                    printer.show(piece)
        printer.close()
        return
    task, why = pick_task(session, chosen)
    if why is not None:
        others = f"kubeq logs {chosen.job.name}/N for others"
        settings.output.note(f"task {task.id.index} of {chosen.job.total:,}, {why}; {others}")
    printer.begin(task.id, attempt or task.attempt)
    if follow:
        pieces = follow_output(session, chosen.job, task.id.index, attempt)
    else:
        pieces = read_output(session, task, attempt)
    for piece in pieces:
        printer.show(piece)
    printer.close()


def _print_node(settings: Globals, name: NodeName, follow: bool, printer: LogPrinter) -> None:
    from kubeq.actions.logs import read_node_log

    for line in read_node_log(settings.session, name, follow=follow):
        printer.show_line(name, line)
    printer.close()
