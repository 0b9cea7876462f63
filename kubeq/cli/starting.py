"""Starting nodes where that is not what was asked for, but what it takes: a failure is told and is no error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from kubeq.actions.launching import ensure_nodes, nodes_for, pool_of_job
from kubeq.actions.status import count_states
from kubeq.cli.global_options import Globals
from kubeq.cli.spending import agree_to_nodes
from kubeq.core.model import UNFINISHED, Job, TaskState
from kubeq.errors import BackendError, Interrupted, UsageError


def start_nodes(settings: Globals, jobs: Iterable[Job], *, asked: bool = False) -> None:
    """A node for every pool of those jobs; if none can be had, the tasks wait and the user is told.

    Machines of a cloud are asked about first, unless the user was `asked` already.
    """
    session = settings.session
    for job in {job.pool: job for job in jobs}.values():
        try:
            pool = pool_of_job(session, job)
            tasks = count_states(session.queue.outcomes(job.id))
            wanted = nodes_for(session, pool, sum(tasks[state] for state in UNFINISHED), job)
            if not asked:
                agree_to_nodes(settings, pool, wanted)
            started = ensure_nodes(session, pool, wanted, settings.output.warn, job)
        except Interrupted:
            settings.output.note(f"no machine was started; kubeq addnodes 1 {job.id} starts one")
        except (BackendError, UsageError) as error:  # the second: the cloud has no longer what the pool asks for
            settings.output.warn(f"{error.message}; kubeq addnodes 1 {job.id} tries again")
        else:
            settings.output.note(f"started node {', '.join(started)}" if started else "a node is there")


@contextmanager
def hinting(job: Job | None = None) -> Iterator[None]:
    """A block in which nodes are started, for that job; if none can be had, the user is told what to type next."""
    try:
        yield
    except BackendError as error:
        if error.hint is None:
            error.hint = "mend that, then try again; kubeq hosts looks at hosts of yours" if job is None else kept(job)
        raise


def kept(job: Job) -> str:
    """The hint for a job that has no node."""
    return f"the job is stored: mend that, then kubeq resume {job.id}; kubeq kill {job.id} gives it up"


def agree_to_retry(settings: Globals, job: Job) -> None:
    """Ask whether the machines are to be started that it takes to run again what has failed. Raises Interrupted."""
    session = settings.session
    pool = pool_of_job(session, job)
    if pool.machines is None or settings.yes:
        return
    tasks = count_states(session.queue.outcomes(job.id))
    if tasks[TaskState.FAILED]:
        left = sum(tasks[state] for state in (TaskState.FAILED, *UNFINISHED))
        agree_to_nodes(settings, pool, nodes_for(session, pool, left, job))
