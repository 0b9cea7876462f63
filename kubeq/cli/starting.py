"""Starting nodes where that is not what was asked for, but what it takes: a failure is told and is no error."""

from __future__ import annotations

from collections.abc import Iterable

from kubeq.actions.launching import ensure_nodes, nodes_for, pool_of_job
from kubeq.cli.global_options import Globals
from kubeq.core.model import UNFINISHED, Job
from kubeq.errors import BackendError


def start_nodes(settings: Globals, jobs: Iterable[Job]) -> None:
    """A node for every pool of those jobs; if none can be had, the tasks wait and the user is told."""
    session = settings.session
    for job in {job.pool: job for job in jobs}.values():
        try:
            pool = pool_of_job(session, job)
            left = sum(
                count for outcome, count in session.queue.outcomes(job.id).items() if outcome.state in UNFINISHED
            )
            started = ensure_nodes(session, pool, nodes_for(session, pool, left, job), settings.output.warn)
        except BackendError as error:
            settings.output.warn(f"{error.message}; kubeq addnodes 1 JOB tries again")
        else:
            settings.output.note(f"started node {', '.join(started)}" if started else "a node is there")
