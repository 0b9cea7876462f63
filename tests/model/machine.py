"""The state machine: what may happen next in a world, and that all ends well once everything works again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kubeq.core.model import Ending, JobId
from kubeq.queue.rows import job_of
from tests.model import oracle
from tests.model.calls import Call, Fault, Plan
from tests.model.judge import Judge
from tests.model.oracle import Violation
from tests.model.world import LEASE_S, Agent, World

TASKS_AT_MOST = 4
HEAL_ROUNDS = 60
ENDINGS = [Ending.SUCCEEDED, Ending.FAILED, Ending.FAILED, Ending.RELEASED, Ending.CANCELLED]
TASK_WORDS = ["cancel_job", "cancel_job", "cancel_tasks", "retry", "retry", "reset"]
JOB_WORDS = ["submit", "pause", "resume", "resume", "close", "sweep", "number", "pin"]

writing = st.sampled_from([Fault.NONE, Fault.LOST, Fault.REFUSED, Fault.TWICE, Fault.LATE])
reading = st.sampled_from([Fault.NONE, Fault.STALE, Fault.STALE, Fault.LOST])
plans = st.one_of(
    st.builds(Plan),
    st.builds(Plan, st.lists(writing, min_size=1, max_size=3)),
    st.builds(Plan, st.lists(writing, max_size=3), st.lists(reading, max_size=5)),
)
halts = st.one_of(st.none(), st.none(), st.integers(0, 5))
"""After how many requests a call is left standing: it goes on later, or never. None: it runs to its end."""
indexes = st.lists(st.integers(1, TASKS_AT_MOST), min_size=1, max_size=3, unique=True)
flags = st.fixed_dictionaries({"succeeded": st.booleans(), "force": st.booleans()})
seconds = st.sampled_from([0.5, 3.0, 39.0, 61.0, 100.0, 121.0, 200.0])


class QueueMachine(RuleBasedStateMachine):
    """Agents, users, faults and time, in any order."""

    make_world: Callable[[], World]
    """Set by `check`."""

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).make_world()
        self.judge = Judge(self.world)
        self.world.observer = self.judge
        self.offsets: dict[str, float] = {}
        self.broken = False

    @initialize(
        first=st.sampled_from([-30.0, 0.0, 30.0]),
        second=st.floats(-30.0, 30.0),
        tasks=st.integers(1, TASKS_AT_MOST),
        retries=st.integers(0, 2),
        losses=st.integers(0, 2),
    )
    def begin(self, first: float, second: float, tasks: int, retries: int, losses: int) -> None:
        self.offsets = {"node-1": first, "node-2": second}
        for name, offset_s in self.offsets.items():
            self.world.agent(name, offset_s)
        self.submit(tasks, retries, losses, Plan(), None)

    # -- agents

    @rule(number=st.integers(0, 1), starts=st.integers(1, 3), plan=plans, halt=halts)
    def claim(self, number: int, starts: int, plan: Plan, halt: int | None) -> None:
        agent = self._living()[number]
        standing = agent.claiming  # an agent makes one claim at a time
        self._go(lambda: standing if standing in self.world.calls else self.world.claim(agent, starts), plan, halt)

    @precondition(lambda self: self.world.grants)
    @rule(data=st.data(), plan=plans, halt=halts)
    def renew(self, data: st.DataObject, plan: Plan, halt: int | None) -> None:
        agent, grants = self._held(data)
        self._go(lambda: self.world.renew(agent, grants), plan, halt)

    @precondition(lambda self: self.world.grants)
    @rule(data=st.data(), ending=st.sampled_from(ENDINGS), plan=plans, halt=halts)
    def finish(self, data: st.DataObject, ending: Ending, plan: Plan, halt: int | None) -> None:
        agent, grants = self._held(data)
        self._go(lambda: self.world.finish(agent, grants, ending), plan, halt)

    @rule(number=st.integers(0, 1), mourned=st.booleans())
    def die(self, number: int, mourned: bool) -> None:
        """A new life of the agent; what the old one had under way is gone, or is a zombie."""
        agent = self._living()[number]
        for call in [call for call in self.world.calls if call.facts.get("agent") is agent and mourned]:
            self.world.abandon(call)
        self.world.agent(agent.name, agent.clock.offset_s)

    # -- users

    @precondition(lambda self: len(self.world.jobs) < 2)
    @rule(
        tasks=st.integers(1, TASKS_AT_MOST), retries=st.integers(0, 2), losses=st.integers(0, 2), plan=plans, halt=halts
    )
    def submit(self, tasks: int, retries: int, losses: int, plan: Plan, halt: int | None) -> None:
        submission = self.world.submission(tasks, retries, losses)
        self._go(lambda: self.world.user("submit", submission.job.id), plan, halt)

    @rule(data=st.data(), kind=st.sampled_from(JOB_WORDS), plan=plans, halt=halts)
    def ask(self, data: st.DataObject, kind: str, plan: Plan, halt: int | None) -> None:
        """A user says a word about a job."""
        if jobs := self._begun():
            job = data.draw(st.sampled_from(jobs))
            self._go(lambda: self.world.user(kind, job), plan, halt)

    @rule(data=st.data(), kind=st.sampled_from(TASK_WORDS), chosen=indexes, flags=flags, plan=plans, halt=halts)
    def change(
        self, data: st.DataObject, kind: str, chosen: list[int], flags: dict[str, bool], plan: Plan, halt: int | None
    ) -> None:
        """A user changes what is to become of tasks."""
        if jobs := self._begun():
            job = data.draw(st.sampled_from(jobs))
            there = {int(row.key.name) for row in self.world.task_rows(job)}
            facts: dict[str, Any] = {"indexes": [index for index in chosen if index in there], **flags}
            self._go(lambda: self.world.user(kind, job, **facts), plan, halt)

    # -- the world

    @precondition(lambda self: self.world.calls)
    @rule(data=st.data(), plan=plans, halt=halts)
    def go_on(self, data: st.DataObject, plan: Plan, halt: int | None) -> None:
        call = self.world.calls[data.draw(st.integers(0, len(self.world.calls) - 1))]
        self._go(lambda: call, plan, halt)

    @precondition(lambda self: self.world.calls)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.world.abandon(self.world.calls[data.draw(st.integers(0, len(self.world.calls) - 1))])

    @precondition(lambda self: self.world.late)
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        self._guarded(lambda: self.world.land(data.draw(st.integers(0, len(self.world.late) - 1))))

    @rule(passed=seconds)
    def advance(self, passed: float) -> None:
        self.world.now += passed

    @invariant()
    def everything_is_sound(self) -> None:
        self._guarded(self.judge.check)

    def teardown(self) -> None:
        for call in list(self.world.calls):
            self.world.abandon(call)
        if not self.broken:
            self._guarded(self._heal)

    # -- parts

    def _go(self, begin: Callable[[], Call], plan: Plan, halt: int | None) -> None:
        """Begin a call and run it: to its end, or to where it halts."""

        def go() -> None:
            call = begin()
            if halt is None:
                self.world.run(call, plan)
            for _ in range(halt or 0):
                if call.request is not None:
                    self.world.step(call, plan.next(call.request))

        self._guarded(go)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Remember that something broke, so that the end does not hide it."""
        try:
            act()
        except Violation:
            self.broken = True
            raise

    def _living(self) -> list[Agent]:
        lives = {agent.name: agent for agent in self.world.agents}
        return [lives[name] for name in sorted(lives)]

    def _held(self, data: st.DataObject) -> tuple[Agent, list[Any]]:
        """One or two grants of one life of an agent, of any age."""
        place = data.draw(st.integers(0, len(self.world.grants) - 1))
        agent, grant = self.world.grants[-1 - place]
        others = {grant.task.id: grant}
        if data.draw(st.booleans()):
            for owner, other in self.world.grants:
                if owner is agent:
                    others.setdefault(other.task.id, other)
        return agent, list(others.values())[:2]

    def _begun(self) -> list[JobId]:
        return [job for job in sorted(self.world.jobs) if self.world.job_row(job) is not None]

    def _heal(self) -> None:
        """Nothing fails any more, users ask again for what failed, and agents run: every task must come to its end."""
        world = self.world
        for call in list(world.unfinished_business):
            facts = {name: value for name, value in call.facts.items() if name != "job"}
            world.run(world.user(call.kind, call.facts["job"], **facts))
        for job in self._begun():
            world.run(world.user("submit", job))
            world.run(world.user("resume", job))
        agents = [world.agent(name, 0.0) for name in self.offsets]
        world.now += 3 * LEASE_S + 60.0
        for _ in range(HEAL_ROUNDS):
            for agent in agents:
                self._work(agent)
            if not any(self._open(job) for job in self._begun()):
                return
            world.now += LEASE_S / 3 + 1.0
        left = [(world.job_row(job), world.task_rows(job)) for job in self._begun()]
        raise Violation(f"the agents ran and ran and did not come to an end: {left}")

    def _work(self, agent: Agent) -> None:
        """One round of a healthy agent."""
        call = self.world.claim(agent, 3)
        self.world.run(call)
        for grant in call.answer.grants:
            ending = Ending.CANCELLED if grant.task.cancel_asked else Ending.SUCCEEDED
            self.world.run(self.world.finish(agent, [grant], ending))
        self.judge.check()

    def _open(self, job: JobId) -> bool:
        row = self.world.job_row(job)
        assert row is not None
        unfinished = [row for row in self.world.task_rows(job) if oracle.read(row).due is not None]
        return bool(unfinished) or job_of(row).open


def check(make_world: Callable[[], World], *, examples: int, steps: int = 30, shrink: bool = True) -> None:
    """Run the machine; always the same examples. Raises Violation with the shortest history that was found."""
    machine = type("Machine", (QueueMachine,), {"make_world": staticmethod(make_world)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
