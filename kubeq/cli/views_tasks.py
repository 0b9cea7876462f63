"""How tasks look: as records (`list --json`), as tables with chosen fields, as parameters to be submitted again."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeq.actions.facts import TaskFacts
from kubeq.cli.output import columns
from kubeq.cli.shown import cell, count, iso, one_line
from kubeq.core.model import Attempt, JobId, Reason, Task, TaskState
from kubeq.core.outcome import signal_name
from kubeq.core.quantities import format_duration, format_size
from kubeq.errors import UsageError

FIELDS = (
    "task", "index", "state", "reason", "exit", "signal", "out_of_memory", "attempt", "failures", "losses", "node",
    "claimed_at", "started_at", "ended_at", "wall_s", "cpu_s", "peak_memory_bytes", "message", "command",
    "image_digest", "results_url", "skipped", "because",
)  # fmt: skip
PARAM = "param."
TEXT_HEADER = ("task", "state", "attempt", "time", "memory", "node")


@dataclass(frozen=True, slots=True)
class TasksView:
    """Tasks of one job, a line each; `fields` are the columns that were asked for, in their order."""

    job: JobId
    parameters: Sequence[str]
    tasks: Sequence[TaskFacts]
    fields: Sequence[str] = ()

    def text(self) -> Iterable[str]:
        if self.fields:
            rows = [[one_line(value) for value in row] for row in self._rows(self.fields)]
            return columns(self.fields, rows)
        header = (*TEXT_HEADER, *self.parameters, "why")
        return columns(header, [self._line(facts) for facts in self.tasks])

    def json(self) -> Mapping[str, Any]:
        return {"job": self.job, "tasks": [task_record(facts) for facts in self.tasks]}

    def quiet(self) -> Iterable[str]:
        return [str(facts.task.id) for facts in self.tasks]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        names = self.fields or [*FIELDS, *(_as_field(name) for name in self.parameters)]
        return names, self._rows(names)

    def _rows(self, names: Sequence[str]) -> Iterable[Sequence[object]]:
        return ([cell(_field(facts, name)) for name in names] for facts in self.tasks)

    def _line(self, facts: TaskFacts) -> Sequence[object]:
        task = facts.task
        current = task.current
        wall = None if current is None or current.usage is None else current.usage.wall_s
        peak = None if current is None or current.usage is None else current.usage.peak_memory_bytes
        return (
            task.id.index,
            outcome_text(task),
            task.attempt or "-",
            "-" if wall is None else format_duration(wall),
            "-" if peak is None else format_size(peak),
            "-" if current is None else current.node,
            *(one_line(value, 30) for value in facts.parameters.values()),
            one_line(facts.because or "; ".join(filter(None, [_more_than_outcome(task), _not_stored(facts)])), 100),
        )


@dataclass(frozen=True, slots=True)
class ParametersView:
    """The parameters of tasks as a csv table that `--params` reads again unchanged."""

    columns: Sequence[str]
    tasks: Sequence[Task]

    def text(self) -> Iterable[str]:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(task.values for task in self.tasks)
        return text.getvalue().removesuffix("\n").split("\n")

    def json(self) -> Mapping[str, Any]:
        return {"columns": list(self.columns), "rows": [list(task.values) for task in self.tasks]}

    def quiet(self) -> Iterable[str]:
        return [str(task.id) for task in self.tasks]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return self.columns, (task.values for task in self.tasks)


def check_fields(text: str, parameters: Sequence[str]) -> tuple[str, ...]:
    """The columns that `--fields` names. Raises UsageError for one that does not exist."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = [*FIELDS, *(_as_field(name) for name in parameters)]
    for name in names:
        if name not in known and name.removeprefix(PARAM) not in parameters:
            raise UsageError(f"there is no field {name!r}", hint=f"the fields are: {', '.join(map(_quoted, known))}")
    if not names:
        raise UsageError("--fields names no field", hint="for instance --fields task,state,exit")
    return names


def task_record(facts: TaskFacts) -> dict[str, Any]:
    """A task as JSON has it."""
    task = facts.task
    current = task.current
    exit, usage = (None, None) if current is None else (current.exit, current.usage)
    return {
        "task": str(task.id),
        "index": task.id.index,
        "state": task.state,
        "reason": task.reason,
        "attempt": task.attempt,
        "failures": task.failures,
        "losses": task.losses,
        "parameters": dict(facts.parameters),
        "command": list(facts.command),
        "exit": exit and {"code": exit.code, "signal": exit.signal, "out_of_memory": exit.out_of_memory},
        "node": current and current.node,
        "claimed_at": iso(current.claimed_at) if current else None,
        "started_at": iso(current.started_at) if current else None,
        "ended_at": iso(current.ended_at) if current else None,
        "usage": usage and {"wall_s": usage.wall_s, "cpu_s": usage.cpu_s, "peak_memory_bytes": usage.peak_memory_bytes},
        "message": _message(task),
        "image_digest": facts.image_digest,
        "results_url": facts.results_url,
        "skipped": facts.skipped,
        "because": facts.because,
    }


def outcome_text(task: Task) -> str:
    """`running`, `failed: exit code 3`."""
    state = "running" if task.state is TaskState.CLAIMED else str(task.state)
    return state if task.reason in (None, Reason.CANCELLED) else f"{state}: {reason_text(task.reason, task.current)}"


def reason_text(reason: Reason, attempt: Attempt | None) -> str:
    """Why, in two words, with the number where there is one."""
    exit = attempt.exit if attempt is not None else None
    if reason is Reason.EXIT and exit is not None:
        return f"exit code {exit.code}"
    if reason is Reason.SIGNAL and exit is not None and exit.signal is not None:
        return f"signal {signal_name(exit.signal)}"
    return str(reason).replace("_", " ")


def _field(facts: TaskFacts, name: str) -> object:
    if name not in FIELDS:
        return facts.parameters[name.removeprefix(PARAM) if name not in facts.parameters else name]
    record = task_record(facts)
    match name:
        case "exit":
            return record["exit"] and record["exit"]["code"]
        case "signal" | "out_of_memory":
            return record["exit"] and record["exit"][name]
        case "wall_s" | "cpu_s" | "peak_memory_bytes":
            amount = record["usage"] and record["usage"][name]
            return round(amount, 3) if isinstance(amount, float) else amount
        case "command":
            return shlex.join(facts.command)
        case _:
            value: object = record[name]
            return value


def _quoted(name: str) -> str:
    """The name as it is, in quotes where it could be misread in a list."""
    return name if name.replace(".", "_").isidentifier() else repr(name)


def _as_field(parameter: str) -> str:
    """A parameter's name as a column: with `param.` before it where a field has that name."""
    return PARAM + parameter if parameter in FIELDS else parameter


def _more_than_outcome(task: Task) -> str:
    """The attempt's message, where it says more than the outcome does."""
    message = _message(task) or ""
    return "" if message in outcome_text(task) else message


def _not_stored(facts: TaskFacts) -> str:
    return f"{count(facts.skipped, 'file')} not stored" if facts.skipped else ""


def _message(task: Task) -> str | None:
    return task.current.message if task.current is not None else None
