"""How jobs stand: counts, status, what is left to do, and why whatever waits is waiting.

A job costs one count whatever its size; only what is running reads a bounded sample of tasks, for the time left.
Nothing here changes anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kubeq.actions.launching import SEEN_RECENTLY_S, seen_of
from kubeq.actions.session import Session
from kubeq.actions.spending import Spending, Spent
from kubeq.core.model import UNFINISHED, GoneReason, Job, JobStatus, Node, NodeState, PoolId, Task, TaskState
from kubeq.core.quantities import format_duration
from kubeq.core.resources import Resources, fits
from kubeq.core.transitions import job_status
from kubeq.queue.rows import Outcome

SAMPLE = 60
"""Finished tasks looked at to know how long one takes."""
LEAST_SAMPLE = 3
"""With fewer finished tasks any time left would be a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """A job as it stands. `eta_s` and `because` are None where there is nothing to wait for or nothing is known.

    `spent` is what its machines have cost; None without any.
    """

    job: Job
    status: JobStatus
    outcomes: Mapping[Outcome, int]
    because: str | None
    eta_s: float | None
    results_url: str
    spent: Spent | None = None

    @property
    def tasks(self) -> dict[TaskState, int]:
        """How many tasks are in each state; every state is there."""
        return count_states(self.outcomes)

    @property
    def reasons(self) -> dict[str, int]:
        """How many tasks ended for each reason."""
        found: Counter[str] = Counter()
        for outcome, count in self.outcomes.items():
            if outcome.reason is not None:
                found[str(outcome.reason)] += count
        return dict(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The nodes of a pool that can be counted on: what each has in all (None: it is only coming up), and what those say
    that cannot work now. `last` says how the machine of a cloud ended that ended last.
    """

    sizes: Sequence[Resources | None]
    troubles: Sequence[str]
    last: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What waiting tasks of a job wait in: the time, the nodes of its pool, how many tasks run.

    `taken_by_others` are the cores that tasks of other jobs hold, where nothing of this one runs.
    """

    job: Job
    now: float
    pool: Standing
    running: int
    rows: int
    taken_by_others: float = 0.0


def summarize(session: Session, jobs: Sequence[Job]) -> list[JobSummary]:
    """How each of the jobs stands."""
    pools: dict[PoolId, Standing] = {}
    spending = Spending(session)
    return [_summary(session, job, pools, spending) for job in jobs]


def situation_of(session: Session, job: Job) -> Situation:
    """What the tasks of a job wait in, for `why_task`."""
    return _situation(session, job, session.queue.outcomes(job.id), {})


def why_task(task: Task, now: Situation) -> str | None:
    """Why an unfinished task does not run yet; None for one that runs or has ended."""
    match task.state:
        case TaskState.CLAIMED:
            return _why_claimed(task, now)
        case TaskState.PENDING:
            return (
                _why_job(now) or _why_back_off(task.claimable_at, now) or _why_node(task.resources, now) or _queued(now)
            )
        case _:
            return None


def count_states(outcomes: Mapping[Outcome, int]) -> dict[TaskState, int]:
    """How many tasks are in each state; every state is there."""
    states = dict.fromkeys(TaskState, 0)
    for outcome, count in outcomes.items():
        states[outcome.state] += count
    return states


def standing_nodes(session: Session, pool: PoolId) -> Standing:
    """The pool's nodes.

    A node is believed by what its provider sees of it, and one that the provider does not know by its own last report.
    What nobody knows anything of, since its machine does not answer, may be well.
    """
    observed, now = seen_of(session, pool), session.queue.now()
    silent = session.provider_of(pool).silent(pool)
    rows = {node.name: node for node in session.queue.peers(pool)}
    hidden = {
        name: why
        for name, node in rows.items()
        if name not in observed and (why := silent.get(node.address or "")) is not None
    }
    counted = [
        node
        for name, node in rows.items()
        if (observed[name].alive if name in observed else name in hidden or _reports(node, now))
        and not _is_leaving(node)
    ]
    coming = [None for name, seen in observed.items() if seen.alive and name not in rows]
    suffered = hidden | {name: seen.reason for name, seen in observed.items() if seen.alive and seen.reason}
    notes = {node.name: node.note or suffered.get(node.name) for node in counted}
    troubles = [f"{name}: {note}" for name, note in notes.items() if note]
    return Standing(sizes=[*map(_size, counted), *coming], troubles=troubles, last=_last_end(rows.values()))


def _last_end(nodes: Iterable[Node]) -> str | None:
    """How the machine that ended last did, if that was not for want of work."""
    ended = [node for node in nodes if node.state is NodeState.GONE]
    last = max(ended, key=lambda node: (node.ended_at or 0.0, node.number), default=None)
    if last is None or last.gone is GoneReason.IDLE or (last.machine is None and last.started_at is not None):
        return None
    return f"the last, {last.name}, ended: {last.note or last.gone}"


def _summary(session: Session, job: Job, pools: dict[PoolId, Standing], spending: Spending) -> JobSummary:
    outcomes = session.queue.outcomes(job.id)
    states = count_states(outcomes)
    status = job_status(job, states)
    because, eta_s = None, None
    if status is JobStatus.INCOMPLETE or any(states[state] for state in UNFINISHED):
        situation = _situation(session, job, outcomes, pools)
        because = _why(session, situation, states)
    if status is JobStatus.RUNNING:
        eta_s = _time_left(session, job, states)
    return JobSummary(
        job=job,
        status=status,
        outcomes=outcomes,
        because=because,
        eta_s=eta_s,
        results_url=job.results_url,
        spent=spending.on(job),
    )


def _situation(session: Session, job: Job, outcomes: Mapping[Outcome, int], pools: dict[PoolId, Standing]) -> Situation:
    now = session.queue.now()
    if job.pool not in pools:
        pools[job.pool] = standing_nodes(session, job.pool)
    running = count_states(outcomes)[TaskState.CLAIMED]
    return Situation(
        job=job,
        now=now,
        pool=pools[job.pool],
        running=running,
        rows=sum(outcomes.values()),
        taken_by_others=0.0 if running or not pools[job.pool].sizes else _cores_of_others(session, job),
    )


def _cores_of_others(session: Session, job: Job) -> float:
    """How many cores the running tasks of other jobs asked for: all agents share the cores of this machine."""
    others = [entry for entry in session.queue.entries() if entry.id != job.id]
    return sum(
        count_states(session.queue.outcomes(other.id))[TaskState.CLAIMED] * other.resources.cpu
        for other in session.queue.jobs(others)
        if other.open
    )


def _why(session: Session, now: Situation, states: Mapping[TaskState, int]) -> str | None:
    """Why the job as a whole is not further."""
    held = _why_job(now)
    if held is not None or not states[TaskState.PENDING]:
        return held
    first = None if states[TaskState.CLAIMED] else session.queue.first_due(now.job.id)
    return _why_back_off(first, now) or _why_node(None, now) or _queued(now)


def _why_job(now: Situation) -> str | None:
    if now.job.sealed_at is None:
        return f"incomplete: {now.rows:,} of {now.job.total:,} tasks were submitted"
    if now.job.cancelled:
        return f"killed; {_tasks(now.running)} still stopping"
    if not now.job.paused:
        return None
    running = f"; {_tasks(now.running)} still running" if now.running else ""
    return f"paused{running}; kubeq resume {now.job.id} goes on"


def _why_back_off(claimable_at: float | None, now: Situation) -> str | None:
    if claimable_at is None or claimable_at <= now.now:
        return None
    clock = datetime.fromtimestamp(claimable_at, UTC).strftime("%H:%M:%SZ")
    return f"backing off after a failure until {clock} (in {format_duration(claimable_at - now.now)})"


def _why_node(need: Resources | None, now: Situation) -> str | None:
    if not now.pool.sizes:
        last = f" ({now.pool.last})" if now.pool.last else " yet"
        return f"no node{last}; kubeq addnodes 1 {now.job.id} starts one"
    need = need or now.job.resources
    sizes = [size for size in now.pool.sizes if size is not None]
    if not sizes:
        return "its node is starting"
    if len(sizes) < len(now.pool.sizes) or any(fits(need, size) for size in sizes):
        return None
    largest = max(sizes, key=lambda size: (size.gpus, size.cpu, size.memory or 0))
    return f"too big for any node: it needs {need}, and the largest has {largest}"


def _queued(now: Situation) -> str:
    if now.running:
        return f"waiting for a slot ({now.running:,} running)"
    if now.pool.troubles and len(now.pool.troubles) == len(now.pool.sizes):
        return f"no node can run it now: {now.pool.troubles[0]}"
    sizes = [size.cpu for size in now.pool.sizes if size is not None]
    if sizes and now.taken_by_others and now.taken_by_others + now.job.resources.cpu > max(sizes):
        return "waiting for a free slot: other jobs have taken this machine's cores"
    return "waiting to be claimed"


def _why_claimed(task: Task, now: Situation) -> str | None:
    if (task.claimable_at or 0.0) <= now.now:
        return "its node is silent; another one takes it over"
    return "killed, stopping" if task.cancel_asked else None


def _time_left(session: Session, job: Job, states: Mapping[TaskState, int]) -> float | None:
    """Seconds until the last task ends, by Little's law: what is claimed, over the time that a task stays claimed, is
    the rate at which they end.
    """
    ended, running = states[TaskState.SUCCEEDED] + states[TaskState.FAILED], states[TaskState.CLAIMED]
    if ended < LEAST_SAMPLE or not running:
        return None
    times = list(_claimed_times(session, job, ended))
    if len(times) < LEAST_SAMPLE:
        return None
    return (states[TaskState.PENDING] + running) * (sum(times) / len(times)) / running


def _claimed_times(session: Session, job: Job, ended: int) -> Iterator[float]:
    """How long some of the finished tasks were claimed. Tasks are claimed in order, so the first ones have ended."""
    step = max(1, ended // SAMPLE)
    indexes = list(range(1, min(ended, job.total) + 1, step))[-SAMPLE:]
    for task in session.queue.tasks_at(job.id, indexes):
        current = task.current
        if task.state not in UNFINISHED and current is not None and current.ended_at is not None:
            yield max(0.0, current.ended_at - current.claimed_at)


def _size(node: Node) -> Resources | None:
    """What the node has to give; None for one that cannot give it yet."""
    return None if node.state is NodeState.STARTING else node.total


def _reports(node: Node, now: float) -> bool:
    return node.state is not NodeState.GONE and now - (node.seen_at or node.requested_at) < SEEN_RECENTLY_S


def _is_leaving(node: Node) -> bool:
    return node.order is not None or node.state in (NodeState.DRAINING, NodeState.GONE)


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count:,} tasks"
