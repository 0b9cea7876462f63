"""Claims of agents that are certainly dead: on this machine nobody has to wait for their leases to run out.

A provider that sees a node's process ended has proof, where a queue has only silence. The claim ends as it would have
at the end of its lease; what the dead agent left running is removed by the next agent on its machine, before it starts
anything.
"""

from __future__ import annotations

from kubeq.actions.launching import Nodes, observe_pool
from kubeq.actions.session import Session
from kubeq.core.model import Job, Reach, TaskState
from kubeq.queue.queue import Changed


def disown_gone(session: Session, job: Job, nodes: Nodes | None = None) -> Changed:
    """End the claims that gone nodes still hold in the job, `nodes` being what was just seen of its pool.

    Those of nodes that have left outcomes which are still to be delivered stay, and so do those of machines that are
    still shutting down, on which the agent gives them back itself.
    """
    if job.policy.exclusive and session.provider_of(job.pool).capabilities.reach is Reach.NETWORK:
        return Changed()  # another host's agent could begin before what the dead one left running is removed there
    claimed = any(outcome.state is TaskState.CLAIMED for outcome in session.queue.outcomes(job.id, consistent=True))
    if not claimed:
        return Changed()
    dead = (nodes or observe_pool(session, job.pool)).dead
    gone = frozenset(seen.name for seen in dead if not (seen.undelivered or seen.ending))
    return session.queue.disown(job, gone) if gone else Changed()
