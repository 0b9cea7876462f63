"""A note on each process group, in the state folder, so that the next agent can end what a dead one left.

A note is written before its command runs and once more, with the leader's mark, as soon as there is one; each time
whole or not at all. If the agent dies between the two, the group is known by the pipe that its output goes to.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kubeq.core.model import JobId, NodeName, TaskId
from kubeq.errors import BackendError
from kubeq.machine import ProcessMark, has_ended, mark_of, own_mark, stat_of
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.processes import group_members, kill_group, writers_to

END_S = 10.0
"""How long killed processes may take to be gone."""
NOTE = ".process.json"
DRAFT = ".draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note of this process on one of its executions; `pipe` is the inode that the output goes to."""

    path: Path
    execution: Execution
    agent: ProcessMark
    pipe: int

    def write(self, leader: int | None) -> None:
        """Have it on disk, whole, with the mark of the leader if there is one. Raises BackendError.

        The leader is a child that nobody has waited for yet, so its number is nobody else's even if it has ended.
        """
        stat = None if leader is None else stat_of(leader)
        mark = replace(self.agent, pid=leader, started=int(stat[19])) if leader is not None and stat else None
        document = {
            "job": self.execution.task.job,
            "index": self.execution.task.index,
            "attempt": self.execution.attempt,
            "node": self.execution.node,
            "agent": str(self.agent),
            "leader": str(mark) if mark else None,
            "pipe": self.pipe,
        }
        draft = self.path.with_name(f"{self.agent}-{self.pipe}{DRAFT}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(document))
            draft.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise BackendError(
                f"task {self.execution.task} was not run: no note on it could be written in {self.path.parent}: "
                f"{error.strerror}",
                hint="free some space there",
                transient=True,
            ) from error

    def forget(self) -> None:
        """Nothing of the execution runs any more. Safe twice; a note that cannot be removed names what has ended."""
        with suppress(OSError):
            self.path.unlink()


def note_on(state: Path, execution: Execution, output: int) -> Note:
    """The note on an execution whose output goes to a pipe, by either of its descriptors; not written yet."""
    pipe = os.fstat(output).st_ino
    path = state / f"{execution.task.job}.{execution.task.index}.{execution.attempt}.{pipe}{NOTE}"
    return Note(path=path, execution=execution, agent=own_mark(), pipe=pipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLeftover:
    """A process group whose agent is dead."""

    task: TaskId
    attempt: int
    node: NodeName
    agent: ProcessMark
    leader: ProcessMark | None
    pipe: int | None
    note: Path

    def remove(self) -> None:
        """Kill what is left of the group. Raises BackendError if it does not end."""
        deadline = time.monotonic() + END_S
        while self._kill():
            if time.monotonic() > deadline:
                raise BackendError(f"what the dead node {self.node} ran of task {self.task} does not end")
            time.sleep(0.01)
        self.note.unlink(missing_ok=True)

    def _kill(self) -> bool:
        """Whether anything of it was still there."""
        here, left = own_mark(), self.leader or self.agent
        if (left.boot, left.namespace) != (here.boot, here.namespace):
            return False
        if self.leader is not None:
            return _kill_led(self.leader)
        return self.pipe is not None and _kill_writing(self.pipe, self.agent)


def notes_of_the_dead(state: Path) -> list[ProcessLeftover]:
    """What the notes of agents that are dead now name. Drafts that dead agents had not finished are removed."""
    found = []
    for path in sorted(state.iterdir()) if state.is_dir() else ():
        if path.name.endswith(NOTE):
            leftover = _read_note(path)
            if leftover is not None and has_ended(leftover.agent):
                found.append(leftover)
        elif path.name.endswith(DRAFT):
            writer = ProcessMark.parse(path.name.rpartition("-")[0])
            if writer is not None and has_ended(writer):
                path.unlink(missing_ok=True)
    return found


def _kill_led(leader: ProcessMark) -> bool:
    """Whether anything of a group was still there. A number that is another process's by now is left alone.

    While the leader lives, its mark says so. When it is gone, its number stays taken as long as its group has members;
    a process that has that number but not that mark therefore proves that the group has ended.
    """
    if mark_of(leader.pid) not in (None, leader):
        return False
    members = group_members(leader)
    if members:
        kill_group(leader.pid, signal.SIGKILL)
    return bool(members)


def _kill_writing(pipe: int, agent: ProcessMark) -> bool:
    """Whether anything still wrote to the pipe that a dead agent had made: all that does descends from its command."""
    found = False
    for pid in writers_to(pipe):
        stat = stat_of(pid)
        if stat and int(stat[19]) >= agent.started and int(stat[2]) != os.getpgrp():
            found = kill_group(int(stat[2]), signal.SIGKILL) or found
    return found


def _read_note(note: Path) -> ProcessLeftover | None:
    """What a note says; None for what is none."""
    try:
        document = json.loads(note.read_text())
        agent, leader = ProcessMark.parse(document["agent"]), ProcessMark.parse(document["leader"] or "")
        pipe = document.get("pipe")
        if agent is None:
            return None
        return ProcessLeftover(
            task=TaskId(JobId(document["job"]), int(document["index"])),
            attempt=int(document["attempt"]),
            node=NodeName(document["node"]),
            agent=agent,
            leader=leader,
            pipe=None if pipe is None else int(pipe),
            note=note,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
