"""The world of the model: one table, everybody who uses it, the calls that are under way, and what goes wrong.

What must hold of all this is in `judge`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.model import Ending, Job, JobId, NodeName, Policy, Pool, PoolId, Reason, TaskId
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.errors import BackendError
from kubeq.queue.base import Key, Page, RecordTable, Row
from kubeq.queue.claims import Final, Grant, Room
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from kubeq.queue.rows import jobs_of, task_key, tasks_of
from tests.model.calls import Call, Clock, Fault, Plan, Request, Wire
from tests.model.oracle import Limits, Violation

POOL = PoolId("pool-1")
START = 1_000_000.0
LEASE_S = 120.0
SNAPSHOTS = 6

Make = Callable[[RecordTable, Clock], Queue]


@dataclass(eq=False)
class Agent:
    """One life of an agent. Its calls may outlive it: they are the zombies."""

    name: NodeName
    queue: Queue
    clock: Clock
    made: dict[str, tuple[TaskId, int]] = field(default_factory=dict)
    """The claims that landed in its name, by nonce: of which task, and by which change."""
    granted: set[str] = field(default_factory=set)
    """The nonces of those that it was told of."""
    claiming: Call | None = None


@dataclass(eq=False)
class Submission:
    """A job as its user wants it, and what the checks remember of it and of its tasks (by index)."""

    job: Job
    bodies: list[str]
    wanted: dict[int, int] = field(default_factory=dict)
    """The number of the change by which somebody last wanted the task to run again; 0 for nobody."""
    meant: dict[int, int] = field(default_factory=dict)
    """How many changes there had been when somebody began to ask for that: a kill marked later may overrule it."""
    inserted: dict[int, int] = field(default_factory=dict)
    killed: int = -1
    """Changes up to this number are covered by a kill that has returned."""
    marked: int = -1
    """The number of the change by which the job was last marked as killed."""
    attempts: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        policy = self.job.policy
        return Limits(retries=policy.retries, losses=policy.loss_limit, lease_s=policy.lease_s)


class World:
    """One table and everybody who uses it."""

    def __init__(self, table: RecordTable, mirror: MemoryTable, make: Make = Queue, *, twins: bool = False) -> None:
        """`mirror` shows what is in the table: the table itself, what it wraps, or its twin that does all the same."""
        self.table, self.mirror, self._make, self._twins = table, mirror, make, twins
        self.now = START
        self.changes = 0
        self.calls: list[Call] = []
        self.late: list[tuple[Request, Call]] = []
        self.jobs: dict[JobId, Submission] = {}
        self.agents: list[Agent] = []
        self.grants: list[tuple[Agent, Grant]] = []
        self.unfinished_business: list[Call] = []
        self.observer: Observer = _Nobody()
        self._snapshots: deque[MemoryTable] = deque([mirror.copy()], maxlen=SNAPSHOTS)

    # -- who there is -------------------------------------------------------------------------------------------------

    def clock(self, offset_s: float) -> Clock:
        return Clock(lambda: self.now, offset_s)

    def agent(self, name: str, offset_s: float) -> Agent:
        """A new life of the agent of that name."""
        clock = self.clock(offset_s)
        agent = Agent(NodeName(name), self._make(Wire(), clock), clock)
        self.agents.append(agent)
        return agent

    def submission(self, tasks: int, retries: int, loss_limit: int) -> Submission:
        """A job that nobody has begun to submit."""
        job = Job(
            id=JobId(f"job-{len(self.jobs) + 1}"),
            name="sweep",
            pool=POOL,
            user="ann",
            host="laptop",
            submitted_at=self.now,
            total=tasks,
            spec=Digest.of(b"spec"),
            columns=("x",),
            resources=Resources(cpu=1.0),
            policy=Policy(retries=retries, loss_limit=loss_limit, lease_s=LEASE_S),
            results_url="file:///results",
        )
        bodies = [wire.pending_body(f'["{index}"]') for index in range(1, tasks + 1)]
        self.jobs[job.id] = submission = Submission(job, bodies)
        return submission

    def row(self, task: TaskId) -> Row | None:
        return self.mirror.get([task_key(task)])[0]

    def job_row(self, job: JobId) -> Row | None:
        return self.mirror.get([Key(jobs_of(POOL), job)])[0]

    def task_rows(self, job: JobId) -> Sequence[Row]:
        return self.mirror.list(tasks_of(job), None, 1000).rows

    # -- what they do -------------------------------------------------------------------------------------------------

    def call(self, kind: str, clock: Clock, run: Callable[[], Any], **facts: Any) -> Call:
        """Begin something: it stands before its first request."""
        call = Call(kind=kind, run=run, clock=clock, facts=facts, started=self.changes)
        call.start()
        self.calls.append(call)
        if call.done:
            self._ended(call)
        return call

    def claim(self, agent: Agent, starts: int) -> Call:
        room = Room(free=Resources(cpu=4.0), total=Resources(cpu=4.0), starts=starts)
        call = self.call("claim", agent.clock, lambda: agent.queue.claim(POOL, agent.name, room), agent=agent)
        agent.claiming = call
        return call

    def renew(self, agent: Agent, grants: Sequence[Grant]) -> Call:
        started: list[float | None] = [agent.clock.now() if grant.attempt % 2 else None for grant in grants]
        return self.call(
            "renew", agent.clock, lambda: agent.queue.renew(grants, started), agent=agent, grants=list(grants)
        )

    def finish(self, agent: Agent, grants: Sequence[Grant], ending: Ending) -> Call:
        report = Report(ended_at=agent.clock.now())
        reason = Reason.EXIT if ending is Ending.FAILED else None
        finals = [Final(grant=grant, ending=ending, reason=reason, report=report) for grant in grants]
        facts = {"agent": agent, "grants": list(grants), "ending": ending, "ended_at": report.ended_at}
        return self.call("finish", agent.clock, lambda: agent.queue.finish(finals), **facts)

    def user(self, kind: str, job: JobId, **facts: Any) -> Call:
        """Something a user asks for; the same words do it again after a failure."""
        clock = self.clock(0.0)
        queue = self._make(Wire(), clock)
        submission = self.jobs[job]
        wanted = submission.job
        runs: dict[str, Callable[[], Any]] = {
            "submit": lambda: _submit(queue, submission),
            "cancel_job": lambda: queue.cancel_job(wanted),
            "cancel_tasks": lambda: queue.cancel_tasks(wanted, facts["indexes"]),
            "retry": lambda: queue.retry(wanted, facts["indexes"]),
            "reset": lambda: queue.reset(wanted, facts["indexes"], succeeded=facts["succeeded"], force=facts["force"]),
            "pause": lambda: queue.pause(wanted),
            "resume": lambda: queue.resume(wanted),
            "set_nodes": lambda: queue.set_nodes(wanted, facts["nodes"]),
            "close": lambda: queue.close_if_done(wanted),
            "sweep": lambda: queue.sweep(queue.refresh(wanted)),
            "number": lambda: queue.number_nodes(Pool(id=POOL, provider="local", private=False, created_at=START), 2),
            "pin": lambda: queue.pin(job, "image", f"sha256:{self.changes}"),
        }
        return self.call(kind, clock, runs[kind], job=job, **facts)

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def step(self, call: Call, fault: Fault = Fault.NONE) -> None:
        """Let the call make its request, and run it to the next one or to its end."""
        request = call.request
        assert request is not None
        call.faults += fault is not Fault.NONE
        if fault is Fault.REFUSED or (fault is Fault.LATE and not request.writes):
            call.resume(BackendError("nobody answered"))
        elif fault is Fault.LATE:
            self.late.append((request, call))
            call.resume(BackendError("nobody answered"))
        elif fault is Fault.PART:
            self.apply(replace(request, arguments=(request.arguments[0][1:],)), call)
            call.resume(BackendError("the batch was cut short"))
        else:
            if fault is Fault.TWICE:
                self.apply(request, call)
            answer = self.apply(request, call, stale=fault is Fault.STALE)
            call.resume(BackendError("the answer was lost") if fault is Fault.LOST else answer)
        if call.done:
            self._ended(call)

    def run(self, call: Call, plan: Plan | None = None) -> None:
        """Let the call run to its end."""
        for _ in range(500):
            if call.request is None:
                return
            self.step(call, plan.next(call.request) if plan else Fault.NONE)
        raise Violation(f"a {call.kind} made 500 requests and did not end")

    def land(self, place: int) -> None:
        """A request that was long given up arrives."""
        request, call = self.late.pop(place)
        self.apply(request, call)

    def abandon(self, call: Call) -> None:
        """Whoever made the call dies in the middle of it."""
        call.abandon()
        self.calls.remove(call)
        self._remember(call)

    def apply(self, request: Request, call: Call, *, stale: bool = False) -> Any:
        """The table's answer; every row that it changed is judged."""
        if stale and request.method == "due":
            return self._snapshots[0].due(*request.arguments)
        keys = _keys(request)
        before = self.mirror.get(keys)
        answer = getattr(self.table, request.method)(*request.arguments)
        if self._twins:
            twin = getattr(self.mirror, request.method)(*request.arguments)
            if _plain(twin) != _plain(answer):
                raise Violation(f"two tables answer {request} differently: {answer} and {twin}")
        for old, new in zip(before, self.mirror.get(keys), strict=True):
            if old != new:
                self.changes += 1
                for other in self.calls:
                    other.disturbed |= other is not call
                self.observer.changed(old, new, request, call)
        if request.writes:
            self._snapshots.append(self.mirror.copy())
        return answer

    def _ended(self, call: Call) -> None:
        self.calls.remove(call)
        if call.error is not None:
            self._remember(call)
        self.observer.ended(call)

    def _remember(self, call: Call) -> None:
        """What a user began in vain and will ask for again."""
        if "agent" not in call.facts:
            self.unfinished_business.append(call)


class Observer(Protocol):
    """Sees every row that changes and every call that ends; raises Violation for what must not be."""

    def changed(self, old: Row | None, new: Row | None, request: Request, call: Call) -> None: ...

    def ended(self, call: Call) -> None: ...


class _Nobody:
    def changed(self, old: Row | None, new: Row | None, request: Request, call: Call) -> None:
        """Looks away."""

    def ended(self, call: Call) -> None:
        """Looks away."""


def _submit(queue: Queue, submission: Submission) -> None:
    job = queue.begin(submission.job)
    queue.add_tasks(job, submission.bodies)
    queue.seal(job)


def _keys(request: Request) -> list[Key]:
    if not request.writes:
        return []
    return [each if isinstance(each, Key) else each.key for each in request.arguments[0]]


def _plain(answer: Any) -> Any:
    """The answer in types that can be compared across tables."""
    if isinstance(answer, Page):
        return list(answer.rows), answer.after
    if isinstance(answer, Mapping):
        return dict(answer)
    return answer if answer is None else list(answer)
