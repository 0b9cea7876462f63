"""A note on each running process group, in the state folder, so that the next agent can end what a dead one left."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from kubeq.core.model import JobId, NodeName, TaskId
from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.identity import ProcessMark, has_ended, mark_of, own_mark
from kubeq_consumer.runtimes.processes import group_members, kill_group

END_S = 10.0
"""How long killed processes may take to be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLeftover:
    """A process group whose agent is dead."""

    task: TaskId
    attempt: int
    node: NodeName
    agent: ProcessMark
    leader: ProcessMark | None
    note: Path

    def remove(self) -> None:
        """Kill what is left of the group. Raises BackendError if it does not end."""
        deadline = time.monotonic() + END_S
        while self.leader is not None and _kill(self.leader):
            if time.monotonic() > deadline:
                raise BackendError(f"process group {self.leader.pid} of task {self.task} does not end")
            time.sleep(0.01)
        self.note.unlink(missing_ok=True)


def _kill(leader: ProcessMark) -> bool:
    """Whether anything of a group was still there. A number that is another process's by now is left alone.

    While the leader lives, its mark says so. When it is gone, its number stays taken as long as its group has members;
    a process that has that number but not that mark therefore proves that the group has ended.
    """
    here, standing = own_mark(), mark_of(leader.pid)
    if (leader.boot, leader.namespace) != (here.boot, here.namespace) or standing not in (None, leader):
        return False
    members = group_members(leader)
    if members:
        kill_group(leader.pid, signal.SIGKILL)
    return bool(members)


def write_note(state: Path, execution: Execution, pid: int) -> Path:
    """Note that this process leads the group of that execution."""
    leader = mark_of(pid)
    note = state / f"{execution.task.job}.{execution.task.index}.{execution.attempt}.{pid}.process.json"
    document = {
        "job": execution.task.job,
        "index": execution.task.index,
        "attempt": execution.attempt,
        "node": execution.node,
        "agent": str(own_mark()),
        "leader": str(leader) if leader else None,
    }
    state.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(document))
    return note


def notes_of(state: Path, node: NodeName | None) -> list[ProcessLeftover]:
    """What the notes of `node` name, or those of all agents that are dead (None); never this process's own."""
    found = []
    for note in sorted(state.glob("*.process.json")):
        leftover = _read_note(note)
        if leftover is None or leftover.agent == own_mark():
            continue
        if leftover.node == node if node is not None else has_ended(leftover.agent):
            found.append(leftover)
    return found


def _read_note(note: Path) -> ProcessLeftover | None:
    """What a note says; None for one that was cut short. A command that had ended as it was written has no leader."""
    try:
        document = json.loads(note.read_text())
        agent, leader = ProcessMark.parse(document["agent"]), ProcessMark.parse(document["leader"] or "")
        if agent is None:
            return None
        return ProcessLeftover(
            task=TaskId(JobId(document["job"]), int(document["index"])),
            attempt=int(document["attempt"]),
            node=NodeName(document["node"]),
            agent=agent,
            leader=leader,
            note=note,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
