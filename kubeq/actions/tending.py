"""Keeping a job's nodes up while its submitter waits: finding out that none is left, saying why, starting another.

Only the command that submitted a job (or resumed it) does this. Machines of a cloud are kept up in `replacing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kubeq.actions.launching import UNFIT, Nodes, add_nodes, log_of, pool_of_job, rows_of, stopped_by_user
from kubeq.actions.replacing import Replacing
from kubeq.actions.session import Session
from kubeq.actions.waiting import Tend
from kubeq.core.model import UNFINISHED, Job, Node, NodeOrder
from kubeq.errors import BackendError
from kubeq.nodes.base import Observation
from kubeq.queue.rows import Outcome

MOST_RELAUNCHES = 3
"""In a row, without any task ending in between: then it is not bad luck."""


class Tending:
    """The `tend` of `waiting.follow`; `say` gets sentences for the user."""

    def __init__(self, session: Session, say: Callable[[str], None]) -> None:
        self._session = session
        self._say = say
        self._relaunches = 0
        self._finished = -1
        self._told_stopped = False
        self._told_unseen = False

    def __call__(self, job: Job, outcomes: Mapping[Outcome, int], nodes: Nodes) -> None:
        """Start a node if work is left and nobody is there to do it. Raises BackendError when none stays up."""
        finished = sum(count for outcome, count in outcomes.items() if outcome.state not in UNFINISHED)
        if finished != self._finished:
            self._finished, self._relaunches = finished, 0
        if job.sealed_at is None or job.paused or job.cancelled or finished >= job.total:
            return
        if nodes.live:
            self._told_stopped = self._told_unseen = False
            return
        if nodes.unseen:
            if not self._told_unseen:
                self._say(f"its nodes go on by themselves while they cannot be reached: {nodes.why}")
            self._told_unseen = True
            return
        rows = rows_of(self._session, job.pool)
        if stopped_by_user(rows.values()):
            if not self._told_stopped:
                self._say(f"its nodes were stopped; kubeq addnodes 1 {job.id} starts one")
            self._told_stopped = True
            return
        shrunk = {name for name, row in rows.items() if row.order is NodeOrder.SHRINK}
        if not shrunk.issuperset(nodes.draining):
            return
        last = max(
            (seen for seen in nodes.dead if seen.name not in shrunk), key=lambda seen: _number(seen.name), default=None
        )
        self._relaunch(job, last, rows.get(last.name) if last is not None else None)

    def _relaunch(self, job: Job, last: Observation | None, row: Node | None) -> None:
        """Start another node in place of the one that was seen to end last."""
        why, where = self._reason(last, row)
        if self._relaunches >= MOST_RELAUNCHES:
            raise BackendError(
                f"no node of job {job.id} stays up, after {self._relaunches + 1} tries: {why}{where}",
                hint=f"mend that, then kubeq resume {job.id}; kubeq kill {job.id} gives it up",
            )
        self._relaunches += 1
        if row is not None and row.gone in UNFIT:
            self._say(f"starting another node in place of {row.name}")
        elif last is not None:
            self._say(f"node {last.name} has ended with work left ({why}); starting another")
        add_nodes(self._session, pool_of_job(self._session, job), 1, job=job)

    def _reason(self, last: Observation | None, row: Node | None) -> tuple[str, str]:
        """Why a node has ended, by its own word if it left one, and where more of it stands."""
        if last is None:
            return "it left no reason", ""
        if row is not None and row.note is not None:
            return row.note, f"; kubeq logs {row.name} shows more"
        return last.reason or "it left no reason", f"; its output is in {log_of(self._session, last.name)}"


def _number(name: str) -> int:
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def tending_of(session: Session, job: Job, say: Callable[[str], None]) -> Tend:
    """What keeps up the nodes of a job for the command that has submitted or resumed it."""
    pool = pool_of_job(session, job)
    return Tending(session, say) if pool.machines is None else Replacing(session, pool, say)
