"""`logs` at the screen: whose output is meant, and reading it to its end. How it looks is in `log_printing`."""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.actions.finding import Chosen, find_stored, tasks_of
from kubeq.actions.logs import follow_output, pick_task, read_output
from kubeq.actions.node_logs import follow_node, read_node
from kubeq.actions.session import Session
from kubeq.cli.log_printing import LineRules, LogPrinter
from kubeq.cli.output import Output
from kubeq.core.model import NodeName
from kubeq.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """How it is to be shown, of which attempt (None: the latest), of every task or one, and whether to go on."""

    rules: LineRules
    attempt: int | None
    every: bool
    follow: bool


def show_logs(session: Session, output: Output, text: str, request: LogRequest) -> None:
    """Show what the tasks or the node that the text means have printed. Raises NotFound."""
    printer = LogPrinter(output, session.clock, request.rules, follow=request.follow)
    try:
        chosen = find_stored(session, text)
    except NotFound:
        if "/" in text:
            raise
        _show_node(session, NodeName(text), request, printer)
    else:
        if request.every:
            _show_every(session, chosen, request, printer)
        else:
            _show_one(session, output, chosen, request, printer)
    printer.close()


def _show_every(session: Session, chosen: Chosen, request: LogRequest, printer: LogPrinter) -> None:
    for task in tasks_of(session, chosen):
        if task.attempt >= (request.attempt or 1):
            printer.begin(task.id, request.attempt or task.attempt)
            for piece in read_output(session, task, request.attempt):
                printer.show(piece)


def _show_one(session: Session, output: Output, chosen: Chosen, request: LogRequest, printer: LogPrinter) -> None:
    task, why = pick_task(session, chosen)
    if why is not None:
        others = f"kubeq logs {chosen.job.name}/N for others"
        output.note(f"task {task.id.index} of {chosen.job.total:,}, {why}; {others}")
    printer.begin(task.id, request.attempt or task.attempt)
    if request.follow:
        pieces = follow_output(session, chosen.job, task.id.index, request.attempt)
    else:
        pieces = read_output(session, task, request.attempt)
    for piece in pieces:
        printer.show(piece)


def _show_node(session: Session, name: NodeName, request: LogRequest, printer: LogPrinter) -> None:
    for line in follow_node(session, name) if request.follow else read_node(session, name):
        if line is None:
            printer.pause()
        else:
            printer.show_line(name, line)
