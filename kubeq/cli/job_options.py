"""What several commands say alike: the JOB and TASK arguments with their completion, and the filters."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from kubeq.actions.finding import Choice
from kubeq.cli.global_options import Globals
from kubeq.core.model import Reason, TaskState
from kubeq.core.resources import Resources, parse_resources
from kubeq.core.selectors import LAST, Filters
from kubeq.errors import KubeqError

F = TypeVar("F", bound=Callable[..., Any])
STATE_FLAGS = {"failed": TaskState.FAILED, "pending": TaskState.PENDING, "running": TaskState.CLAIMED}


class FilePath(click.Path):
    """A path that is one: an empty word, as an unset variable of a shell leaves it, does not mean this directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("'' is no path", parameter, context)
        return super().convert(value, parameter, context)


def job_argument(
    name: str = "job", *, many: bool = False, required: bool = True, metavar: str = "JOB"
) -> Callable[[F], F]:
    """A JOB or TASK; names of jobs and ids complete."""
    shown = metavar if required else f"[{metavar}]"
    return click.argument(
        name,
        nargs=-1 if many else 1,
        required=required,
        metavar=f"{shown}..." if many else shown,
        shell_complete=complete_job,
    )


def complete_job(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names first, then ids, that begin so. Nothing at all where the queue cannot be read."""
    from kubeq.actions.finding import known_jobs

    settings = context.find_object(Globals) or Globals()
    try:
        jobs = sorted(known_jobs(settings.session), key=lambda job: job.submitted_at, reverse=True)
    except KubeqError:
        return []
    words = dict.fromkeys([LAST, *(job.name for job in jobs), *(str(job.id) for job in jobs)])
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def filter_options(command: F) -> F:
    """`--failed --pending --running --exit --reason --where`; `choice_of` makes a Choice of them."""
    reasons = click.Choice([str(reason) for reason in Reason])
    for decorate in (
        click.option("--where", metavar="EXPR", help="Only tasks for which it holds: \"x > 0.5 and name == 'a'\"."),
        click.option("--reason", multiple=True, type=reasons, help="Only tasks that ended for that reason."),
        click.option("--exit", "exit_codes", multiple=True, type=int, metavar="N", help="Only tasks that ended so."),
        click.option("--running", is_flag=True, help="Only tasks that are claimed."),
        click.option("--pending", is_flag=True, help="Only tasks that wait."),
        click.option("--failed", is_flag=True, help="Only tasks that failed."),
    ):
        command = decorate(command)
    return command


def choice_of(flags: dict[str, Any]) -> Choice:
    """The filters among the flags, which are taken out."""
    states = frozenset(state for name, state in STATE_FLAGS.items() if flags.pop(name))
    filters = Filters(
        states=states,
        exit_codes=frozenset(flags.pop("exit_codes")),
        reasons=frozenset(Reason(reason) for reason in flags.pop("reason")),
    )
    return Choice(filters=filters, where=flags.pop("where"))


def other_resources(text: str | None, default: Resources) -> Resources | None:
    """What `-r` says over the default; None if it was not given."""
    return None if text is None else parse_resources(text, default)
