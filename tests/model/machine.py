"""The state machine: what may happen next in a world, and that all ends well once everything works again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
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
AGENTS = ["claim"] * 6 + ["takeover"] * 2 + ["renew"] * 4 + ["finish"] * 7 + ["die"]
USERS = ["submit_another", "submit", "pause", "resume", "resume", "close", "sweep", "number", "pin"]
USERS_OF_TASKS = ["cancel_job", "cancel_job", "cancel_tasks", "retry", "retry", "retry", "reset", "reset"]
USERS_OF_NODES = ["set_nodes"]
WORLD = ["go_on"] * 4 + ["crash"] + ["land"] * 2 + ["advance"] * 4
KINDS = [*AGENTS, *USERS, *USERS_OF_TASKS, *WORLD]
"""What may happen, by its weight. One rule with weights and not many rules: hypothesis leaves whole rules out of its
examples by turns, and a history without claims says nothing."""

writing = st.sampled_from([Fault.NONE, Fault.LOST, Fault.REFUSED, Fault.PART, Fault.TWICE, Fault.LATE])
reading = st.sampled_from([Fault.NONE, Fault.STALE, Fault.STALE, Fault.LOST])
plans = st.one_of(
    st.builds(Plan),
    st.builds(Plan, st.lists(writing, min_size=1, max_size=3)),
    st.builds(Plan, st.lists(writing, max_size=3), st.lists(reading, max_size=5)),
)
halts = st.one_of(st.none(), st.integers(0, 5))
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
        self._guarded(
            lambda: self.world.run(self.world.user("submit", self.world.submission(tasks, retries, losses).job.id))
        )

    def happens(self, data: st.DataObject, kind: str) -> None:
        if kind in AGENTS:
            self._an_agent_acts(data, kind)
        elif kind in USERS or kind in USERS_OF_TASKS or kind in USERS_OF_NODES:
            self._a_user_acts(data, kind)
        else:
            self._the_world_goes_on(data, kind)

    def _an_agent_acts(self, data: st.DataObject, kind: str) -> None:
        world = self.world
        agent = self._living()[data.draw(st.integers(0, 1), "agent")]
        match kind:
            case "claim":
                starts = data.draw(st.integers(1, 3), "starts")
                standing = agent.claiming  # an agent makes one claim at a time
                self._go(data, lambda: standing if standing in world.calls else world.claim(agent, starts))
            case "takeover" if agent.claiming not in world.calls:
                world.now += LEASE_S + 61.0  # more than a term and both clocks' errors
                self._guarded(lambda: world.run(world.claim(agent, 3)))
            case "renew" if world.grants:
                owner, grants = self._held(data)
                self._go(data, lambda: world.renew(owner, grants))
            case "finish" if world.grants:
                owner, grants = self._held(data)
                ending = data.draw(st.sampled_from(ENDINGS), "ending")
                self._go(data, lambda: world.finish(owner, grants, ending))
            case "die":
                mourned = data.draw(st.booleans(), "its calls die with it")  # or become zombies
                for call in [call for call in world.calls if mourned and call.facts.get("agent") is agent]:
                    world.abandon(call)
                world.agent(agent.name, agent.clock.offset_s)

    def _a_user_acts(self, data: st.DataObject, kind: str) -> None:
        jobs = self._begun()
        if kind == "submit_another" and len(self.world.jobs) < 2:
            numbers = data.draw(st.tuples(st.integers(1, TASKS_AT_MOST), st.integers(0, 2), st.integers(0, 2)), "job")
            self._go(data, lambda: self.world.user("submit", self.world.submission(*numbers).job.id))
        elif kind != "submit_another" and jobs:
            job = data.draw(st.sampled_from(jobs), "job")
            facts: dict[str, Any] = {}
            if kind in USERS_OF_TASKS:
                there = {int(row.key.name) for row in self.world.task_rows(job)}
                chosen = data.draw(indexes, "indexes")
                facts = {"indexes": [index for index in chosen if index in there], **data.draw(flags, "flags")}
            if kind == "set_nodes":
                facts = {"nodes": data.draw(st.integers(1, 3), "nodes")}
            self._go(data, lambda: self.world.user(kind, job, **facts))

    def _the_world_goes_on(self, data: st.DataObject, kind: str) -> None:
        world = self.world
        match kind:
            case "go_on" if world.calls:
                call = world.calls[data.draw(st.integers(0, len(world.calls) - 1), "call")]
                self._go(data, lambda: call)
            case "crash" if world.calls:
                world.abandon(world.calls[data.draw(st.integers(0, len(world.calls) - 1), "call")])
            case "land" if world.late:
                place = data.draw(st.integers(0, len(world.late) - 1), "request")
                self._guarded(lambda: world.land(place))
            case "advance":
                world.now += data.draw(seconds, "seconds")

    @invariant()
    def everything_is_sound(self) -> None:
        self._guarded(self.judge.check)

    def teardown(self) -> None:
        for call in list(self.world.calls):
            self.world.abandon(call)
        if not self.broken:
            self._guarded(self._heal)

    # -- parts

    def _go(self, data: st.DataObject, begin: Callable[[], Call]) -> None:
        """Begin a call and run it: to its end, or to where it halts."""
        plan, halt = data.draw(plans, "plan"), data.draw(halts, "halts after")

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
        place = data.draw(st.integers(0, len(self.world.grants) - 1), "grant")
        agent, grant = self.world.grants[-1 - place]
        others = {grant.task.id: grant}
        if data.draw(st.booleans(), "with another"):
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


def check(
    make_world: Callable[[], World],
    *,
    examples: int,
    steps: int = 50,
    shrink: bool = True,
    kinds: Sequence[str] = (*KINDS, *USERS_OF_NODES),
) -> None:
    """Run the machine, in which those kinds of things happen; always the same examples.

    Raises Violation with the shortest history that was found.
    """

    @rule(data=st.data(), kind=st.sampled_from(kinds))
    def something_happens(self: QueueMachine, data: st.DataObject, kind: str) -> None:
        self.happens(data, kind)

    parts = {"make_world": staticmethod(make_world), "something_happens": something_happens}
    machine = type("Machine", (QueueMachine,), parts)
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
