"""Why nothing of a job runs, for whoever waits for it: asked when that has lasted for a while, told when it is news."""

from __future__ import annotations

import re

from kubeq.actions.session import Session
from kubeq.actions.status import summarize
from kubeq.actions.waiting import Tick
from kubeq.core.model import TaskState
from kubeq.errors import KubeqError

STILL_S = 10.0
"""As a rule a node starts within this; and so long is between two questions."""


class Standstill:
    """Looks at every tick of one job. For one thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._still_since: float | None = None
        self._finished = -1
        self._told = ""

    def news(self, tick: Tick) -> str | None:
        """Why nothing runs; None if something does, if that is known, or if it has not lasted for long yet."""
        now = self._session.clock.monotonic()
        moves = tick.ended or tick.tasks[TaskState.CLAIMED] or tick.finished != self._finished
        self._finished = tick.finished
        if moves or self._still_since is None:
            self._still_since = now
        if moves:
            self._told = ""
        if now - self._still_since < STILL_S:
            return None
        self._still_since = now
        try:
            because = summarize(self._session, [tick.job])[0].because
        except KubeqError:  # whoever waits goes on waiting
            return None
        told, self._told = self._told, re.sub(r"[0-9]+", "", because or "")  # how long it still takes is no news
        return because if self._told != told else None
