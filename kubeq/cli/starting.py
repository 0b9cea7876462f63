"""Starting nodes where that is not what was asked for, but what it takes: a failure is told and is no error."""

from __future__ import annotations

from collections.abc import Iterable

from kubeq.actions.launching import ensure_nodes, pool_of_job
from kubeq.cli.main import Globals
from kubeq.core.model import Job
from kubeq.errors import BackendError


def start_nodes(settings: Globals, jobs: Iterable[Job]) -> None:
    """A node for every pool of those jobs; if none can be had, the tasks wait and the user is told."""
    for pool in {job.pool: pool_of_job(settings.session, job) for job in jobs}.values():
        try:
            started = ensure_nodes(settings.session, pool)
        except BackendError as error:
            settings.output.warn(f"{error.message}; kubeq addnodes 1 JOB tries again")
        else:
            settings.output.note(f"started node {', '.join(started)}" if started else "a node is there")
