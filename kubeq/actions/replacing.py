"""Keeping up the machines of a job while somebody waits: whoever waits may do so, and several add no more than one.

What ended and why is told; what a pool has lost is replaced as long as there is work that nobody does, up to the nodes
that the job is to have. Machines that never work are not replaced for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kubeq.actions.fleet import Fleet
from kubeq.actions.launching import Nodes, ensure_nodes, fleet_now, nodes_for, stopped_by_user
from kubeq.actions.listening import Listening
from kubeq.actions.session import Session
from kubeq.core.model import UNFINISHED, GoneReason, Job, Node, NodeName, Pool, TaskState
from kubeq.core.quantities import format_duration
from kubeq.errors import BackendError
from kubeq.queue.rows import Outcome

MOST_BARREN = 3
"""Machines that ended in a row without ever working: then it is not bad luck, and each was paid for."""
MOST_REFUSALS = 6
"""Launches in a row of which nothing came; each costs nothing, and room may come back within minutes."""
PAUSE_S = 60.0
"""Between two launches, where not all could be had."""
COUNT_EVERY_S = 60.0
"""So often machines are counted although there seem to be enough: one that never reports itself is none."""
RECENT_S = 120.0
"""An end so long before the waiting is still worth telling: it is why a machine is started."""
CONSOLE_LINES = 8
"""So much of a console is shown of a machine whose agent never spoke."""


class Replacing:
    """The `tend` of `waiting.follow` for a job on machines of a cloud; `say` gets sentences for the user.

    `since`: what ended before that says nothing about now.
    """

    def __init__(self, session: Session, pool: Pool, say: Callable[[str], None], *, since: float | None = None) -> None:
        self._session = session
        self._pool = pool
        self._say = say
        self._since = session.queue.now() if since is None else since
        self._refusals = 0
        self._not_before = float("-inf")
        self._count_again_at = session.clock.monotonic() + COUNT_EVERY_S
        self._told: set[NodeName] = set()
        self._told_once: set[str] = set()
        self._listening = Listening(session, pool)

    def __call__(self, job: Job, outcomes: Mapping[Outcome, int], nodes: Nodes) -> None:
        """Start what is missing. Raises BackendError, with the provider's reason, when no machine ever works."""
        if job.sealed_at is None or job.paused or job.cancelled or not job.open:
            return
        unfinished = sum(count for outcome, count in outcomes.items() if outcome.state in UNFINISHED)
        waiting = sum(count for outcome, count in outcomes.items() if outcome.state is TaskState.PENDING)
        wanted = nodes_for(self._session, self._pool, unfinished, job)
        if not unfinished:
            return
        if (heard := self._listening.news()) is not None:
            self._say(f"machine {described(heard[0])} cannot become a node: {heard[1]}")
        now = self._session.clock.monotonic()
        if len(nodes.live) >= wanted and not self._news(nodes) and now < self._count_again_at:
            return
        self._count_again_at = now + COUNT_EVERY_S
        try:
            fleet = fleet_now(self._session, self._pool)
        except BackendError as error:  # the cloud's, which has been asked again for a while already
            if not error.transient:
                raise
            self._once(f"{error.message}; trying again while the job goes on")
            return
        self._tell(fleet)
        missing = wanted - len(fleet.live) - len(fleet.coming)
        if waiting and missing > 0 and not self._is_stopped(job, fleet) and not self._is_hopeless(job, fleet):
            self._start(job, wanted, missing)

    def _start(self, job: Job, wanted: int, missing: int) -> None:
        """Start machines, unless some could not be had just now. Raises BackendError if none can be had for long."""
        now = self._session.clock.monotonic()
        if now < self._not_before:
            return
        try:
            names = ensure_nodes(self._session, self._pool, wanted, self._say, job)
        except BackendError as error:
            self._refusals += 1
            if self._refusals >= MOST_REFUSALS:
                raise
            names = ()
            self._say(f"{error.message}; trying again in {format_duration(PAUSE_S)}")
        if names:
            self._refusals = 0
            self._say(f"starting {len(names):,} more: {', '.join(names)}")
        self._not_before = now + PAUSE_S if len(names) < missing else now

    def _news(self, nodes: Nodes) -> bool:
        return any(seen.name not in self._told for seen in nodes.dead)

    def _tell(self, fleet: Fleet) -> None:
        """Say of each machine once that it has ended, and why."""
        for node in fleet.ended:
            refused = node.gone is GoneReason.NEVER_STARTED and node.machine is None
            if node.name not in self._told and not refused and (node.ended_at or 0.0) >= self._since - RECENT_S:
                self._say(f"machine {described(node)} has ended: {node.note or node.gone}")
            self._told.add(node.name)

    def _is_stopped(self, job: Job, fleet: Fleet) -> bool:
        """Whether the newest machine was told to leave by a user, who does not want another one then."""
        if fleet.coming or not stopped_by_user(fleet.rows.values()):
            return False
        self._once(f"its nodes were stopped; kubeq addnodes 1 {job.id} starts one")
        return True

    def _is_hopeless(self, job: Job, fleet: Fleet) -> bool:
        """Whether starting more is given up. Raises BackendError if there is none left either."""
        barren = fleet.barren(self._since)
        if len(barren) < MOST_BARREN or fleet.working:
            return False
        heard = next((words for node in barren if (words := self._listening.why(node.name))), None)
        why = heard or barren[0].note or str(barren[0].gone)
        if fleet.live or fleet.coming:
            self._once(
                f"no more machines are started as {len(barren):,} never worked ({why}); those that are there go on"
            )
            return True
        for line in self._console(barren[0]):
            self._say(line)
        raise BackendError(
            f"{len(barren):,} machines for job {job.id} have ended one after another without ever working: {why}",
            hint=f"mend that, then kubeq resume {job.id}; kubeq kill {job.id} gives it up",
        )

    def _console(self, node: Node) -> list[str]:
        """The last that a machine printed whose agent never spoke."""
        if node.gone is not GoneReason.NEVER_STARTED:
            return []
        printed = self._session.provider_of(self._pool.id).console(node.name)
        lines = [line.rstrip() for line in (printed or "").splitlines() if line.strip()][-CONSOLE_LINES:]
        return [f"the console of {node.name} ends so:", *(f"  {line}" for line in lines)] if lines else []

    def _once(self, sentence: str) -> None:
        if sentence not in self._told_once:
            self._told_once.add(sentence)
            self._say(sentence)


def replacing(session: Session, job: Job, say: Callable[[str], None]) -> Replacing | None:
    """What keeps up the machines of a job that is only watched; None unless the caller has submitted it, to machines of
    a cloud, and with this store.
    """
    pool = session.queue.pool(job.pool) if job.user == session.user else None
    ours = job.results_url.startswith(f"{session.store.url}/")
    return Replacing(session, pool, say) if ours and pool is not None and pool.machines is not None else None


def described(node: Node) -> str:
    """The node with what its machine is."""
    if node.machine is None:
        return node.name
    return f"{node.name} ({node.machine.type}{', spot' if node.machine.spot else ''}, {node.machine.zone})"
