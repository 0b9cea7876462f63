"""Claims of agents that are certainly dead: on this machine nobody has to wait for their leases to run out.

A provider that sees a node's process ended has proof, where a queue has only silence. The claim ends as it would have
at the end of its lease; what the dead agent left running is removed by the next agent on its machine, before it starts
anything.
"""

from __future__ import annotations

from kubeq.actions.launching import observe_pool
from kubeq.actions.session import Session
from kubeq.core.model import Job, NodeName, TaskState
from kubeq.nodes.boot import node_directory
from kubeq.queue.queue import Changed


def gone_nodes(session: Session, job: Job) -> frozenset[NodeName]:
    """The nodes of the job's pool that have ended and left no outcome that is still to be delivered."""
    dead = (seen.name for seen in observe_pool(session, job.pool).dead)
    return frozenset(name for name in dead if not _has_undelivered(session, name))


def disown_gone(session: Session, job: Job) -> Changed:
    """End the claims that gone nodes still hold in the job."""
    claimed = any(outcome.state is TaskState.CLAIMED for outcome in session.queue.outcomes(job.id, consistent=True))
    gone = gone_nodes(session, job) if claimed else frozenset()
    return session.queue.disown(job, gone) if gone else Changed()


def _has_undelivered(session: Session, node: NodeName) -> bool:
    """Whether the next agent will deliver something for it: then its attempts are not lost."""
    return any((node_directory(session.config.state_dir, node) / "spool").glob("*.json"))
