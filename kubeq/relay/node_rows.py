"""What a node may say of itself in its row. Every field is either checked or known better here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubeq.core.machines import Machine
from kubeq.core.model import GoneReason, Node, NodeState, TaskId
from kubeq.core.requests import Requests
from kubeq.core.resources import Resources
from kubeq.core.wire import checks
from kubeq.queue.wire import LONGEST_ID

LONGEST_TEXT = 2000
MOST_TASKS = 10_000
MOST_KINDS = 100


def checked(node: Node) -> Node:
    """The row that a node tells, if everything in it is what it should be. Raises ValueError."""
    for name in Node.__slots__:
        value = getattr(node, name)
        if value is not None and name not in KNOWN_BETTER:
            CHECKS[name](value)
    return node


def _check_text(value: Any) -> None:
    checks.text(value, LONGEST_TEXT)


def _check_total(total: Resources) -> None:
    checks.number(total.cpu)
    checks.whole(total.memory or 0)
    checks.whole(total.gpus)


def _check_tasks(tasks: tuple[TaskId, ...]) -> None:
    checks.whole(len(tasks), most=MOST_TASKS)
    for task in tasks:
        checks.text(task.job, LONGEST_ID)
        checks.whole(task.index, least=1)


def _check_requests(requests: Requests) -> None:
    for counts in (requests.queue, requests.store):
        checks.whole(len(counts), most=MOST_KINDS)
        for kind, number in counts.items():
            checks.text(kind, LONGEST_ID)
            checks.whole(number)


def _check_machine(machine: Machine) -> None:
    for text in (machine.id or "", machine.type, machine.zone):
        checks.text(text, LONGEST_ID)
    checks.flag(machine.spot)
    checks.number(machine.price or 0.0)


KNOWN_BETTER = frozenset({"name", "pool", "number", "provider", "order", "packages"})
"""What stands in a node's row whatever it says of itself."""
CHECKS: Mapping[str, Callable[[Any], object]] = {
    "state": NodeState,
    "host": _check_text,
    "pid": checks.whole,
    "address": _check_text,
    "total": _check_total,
    "tasks": _check_tasks,
    "requested_at": checks.number,
    "started_at": checks.number,
    "seen_at": checks.number,
    "ended_at": checks.number,
    "gone": GoneReason,
    "note": _check_text,
    "version": _check_text,
    "requests": _check_requests,
    "machine": _check_machine,
    "worked": checks.flag,
    "begun": checks.flag,
}
"""Everything else: a field without a check is a hole in the wall, and a test looks for it."""
