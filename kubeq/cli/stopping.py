"""What `--stop-nodes` of `kill` and `pause` does once the gates of the jobs are shut."""

from __future__ import annotations

from collections.abc import Iterable

from kubeq.actions.aborting import others_need, stop_nodes
from kubeq.actions.session import Session
from kubeq.cli.output import Output
from kubeq.core.model import Job


def stop_pools(session: Session, output: Output, jobs: Iterable[Job]) -> None:
    """Stop the nodes of those jobs' pools, but for pools that other jobs need; say which left and which did not."""
    for job in {job.pool: job for job in jobs}.values():
        if others_need(session, job):
            output.warn(
                f"its nodes serve other jobs too and go on; kubeq nodes --stop {job.id} stops them all the same"
            )
            continue
        stopped = stop_nodes(session, job.pool)
        output.note(f"stopped nodes: {', '.join(stopped.asked) or 'none was there'}")
        if stopped.left_over:
            output.warn(f"these nodes were asked to leave and are still there: {', '.join(stopped.left_over)}")
