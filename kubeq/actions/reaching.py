"""Reaching into nodes: a shell or a command on one, or in the container of a task that runs there.

Copying files is in `copying`.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubeq.actions.finding import find_one
from kubeq.actions.nodes import find_node, list_nodes
from kubeq.actions.session import Session
from kubeq.core.model import Node, NodeState, Task, TaskState
from kubeq.core.wire import decode_spec
from kubeq.errors import Conflict, NotFound, UsageError

_IN_CONTAINER = """\
found=$(docker ps -q --filter label=kubeq.job={job} --filter label=kubeq.task={index} \\
    --filter label=kubeq.attempt={attempt} | head -n 1)
[ -n "$found" ] || {{ echo 'error: the container of that task is not there any more' >&2; exit 4; }}
exec docker exec {flags} "$found" "$@"
"""


def command_on(session: Session, text: str | None, words: Sequence[str], *, terminal: bool) -> list[str]:
    """What to run here to run the words (none: a shell) on a node; without its name on the first live one.

    Raises NotFound or Conflict.
    """
    node = find_node(session, text) if text is not None else first_node(session)
    return provider_command(session, node, words, terminal)


def command_in(session: Session, text: str, words: Sequence[str], *, terminal: bool) -> list[str]:
    """What to run here to run the words (none: a shell) in the container of a task that runs now.

    Raises NotFound, or Conflict for a task that does not run, or not in a container.
    """
    chosen = find_one(session, text)
    indexes = list(chosen.indexes.of(chosen.job.name, chosen.job.total))
    if chosen.whole or len(indexes) != 1:
        raise UsageError(f"{text!r} names {len(indexes):,} tasks", hint=f"name one: {chosen.job.id}/1")
    task = session.queue.tasks_at(chosen.job.id, indexes)[0]
    current = task.current
    if task.state is not TaskState.CLAIMED or current is None or current.started_at is None:
        raise Conflict(f"task {task.id} is {_state(task)}, so there is nothing to enter", hint=f"kubeq show {task.id}")
    if decode_spec(session.blobs.read(chosen.job.spec)).image is None:
        raise Conflict(f"task {task.id} runs without a container", hint=f"kubeq connect {current.node}")
    script = _IN_CONTAINER.format(
        job=task.id.job, index=task.id.index, attempt=current.number, flags="-it" if terminal else "-i"
    )
    return provider_command(
        session, find_node(session, current.node), ["sh", "-c", script, "kubeq", *(words or ["sh"])], terminal
    )


def first_node(session: Session) -> Node:
    """The first live node there is. Raises NotFound."""
    for facts in list_nodes(session):
        if facts.node.state is not NodeState.GONE:
            return facts.node
    raise NotFound("there is no live node", hint="kubeq addnodes 1 starts one")


def provider_command(session: Session, node: Node, words: Sequence[str], terminal: bool) -> list[str]:
    """What to run here so that the words run on that node. Raises Conflict for one that was made by hand elsewhere."""
    provider = next((each for each in session.providers_of(node.pool) if each.name == node.provider), None)
    if provider is None:
        raise Conflict(
            f"node {node.name} was made by hand on {node.host}, and kubeq has no way into it",
            hint=f"log in to {node.host} as you did when you started it",
        )
    return provider.command(node, words, terminal=terminal)


def _state(task: Task) -> str:
    return "about to start" if task.state is TaskState.CLAIMED else str(task.state)
