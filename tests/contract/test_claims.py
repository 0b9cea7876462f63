"""The Claims contract: what an agent may rely on, whether it works on the table itself or through a relay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.machines import Machine
from kubeq.core.model import (
    Ending,
    Exit,
    Job,
    JobId,
    Node,
    NodeName,
    NodeOrder,
    NodeState,
    Policy,
    Pool,
    Reason,
    TaskId,
    TaskState,
    Usage,
)
from kubeq.core.packages import Package
from kubeq.core.resources import Resources
from kubeq.core.spec import JobSpec
from kubeq.core.transitions import Report
from kubeq.queue.base import RecordTable
from kubeq.queue.claims import Claims, Final, Grant, Room
from kubeq.queue.granting import Granting
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from kubeq.queue.sqlite import SqliteTable
from kubeq.store.blobs import Blobs
from kubeq.store.memory import MemoryStore
from tests.jobs import FakeClock
from tests.queued import submitted
from tests.relays import POOL, served

BIG = Resources(cpu=64.0, memory=10**12)
TERM_S = 60.0


class Setting:
    """One queue: the user's half of it, and an agent's half for every node that is asked for."""

    def __init__(self, table: RecordTable, clock: FakeClock, agent: Callable[[NodeName], Claims]) -> None:
        self.clock = clock
        self.queue = Queue(table, clock)
        self.blobs = Blobs(MemoryStore())
        self._agent = agent
        self._agents: dict[str, Claims] = {}

    def agent(self, name: str = "n1") -> Claims:
        """The same one each time."""
        if name not in self._agents:
            self._agents[name] = self._agent(NodeName(name))
        return self._agents[name]

    def again(self, name: str) -> Claims:
        """A new life of the agent of that name."""
        self._agents[name] = self._agent(NodeName(name))
        return self._agents[name]

    def submit(self, tasks: int = 1, *, image: str | None = None, id: str = "j1", **policy: Any) -> Job:
        resources = Resources(cpu=1.0)
        spec = JobSpec(command=("true",), columns=("x",), image=image, resources=resources, log_limit=1000)
        return submitted(
            self.queue,
            tasks,
            id=id,
            spec=self.blobs.put_bytes(wire.encode_spec(spec)),
            resources=resources,
            policy=Policy(lease_s=TERM_S, **policy),
            at=self.clock.now(),
        )

    def claim(self, starts: int = 1, name: str = "n1", **room: Any) -> list[Grant]:
        return list(self.agent(name).claim(POOL, NodeName(name), wide(starts, **room)).grants)

    def live(self, seconds: float, *names: str) -> None:
        """Time goes by, and those agents ask for work as idle ones do."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.advance(min(TERM_S / 10, end - self.clock.now()))
            for name in names:
                assert self.claim(0, name) == []

    def node(self, name: str = "n1", **changes: Any) -> Node:
        plain = Node(
            name=NodeName(name),
            pool=POOL,
            number=1,
            provider="test",
            state=NodeState.ACTIVE,
            host="h",
            requested_at=self.clock.now(),
        )
        return replace(plain, **changes)


def wide(starts: int, ahead: int = 0, *, free: Resources = BIG, total: Resources = BIG, slots: int = 1) -> Room:
    return Room(free=free, total=total, starts=starts, ahead=ahead, pool_slots=slots)


def succeeded(grant: Grant, at: float, **report: Any) -> Final:
    return Final(grant=grant, ending=Ending.SUCCEEDED, report=Report(ended_at=at, exit=Exit(code=0), **report))


def failed(grant: Grant, at: float, code: int = 3) -> Final:
    report = Report(ended_at=at, exit=Exit(code=code))
    return Final(grant=grant, ending=Ending.FAILED, reason=Reason.EXIT, report=report)


def given_back(grant: Grant, at: float) -> Final:
    return Final(grant=grant, ending=Ending.RELEASED, report=Report(ended_at=at, message="given back"))


def _direct(table: RecordTable, clock: FakeClock) -> Setting:
    return Setting(table, clock, lambda node: Granting(table, clock))


@pytest.fixture(params=["memory", "sqlite", "relay"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setting]:
    clock = FakeClock()
    match request.param:
        case "memory":
            yield _direct(MemoryTable(), clock)
        case "sqlite":
            yield _direct(SqliteTable(tmp_path / "queue.db"), clock)
        case _:
            table, store = SqliteTable(tmp_path / "queue.db"), MemoryStore()
            with served(tmp_path, table, store, clock) as relay:
                tokens: dict[NodeName, Any] = {}

                def agent(node: NodeName) -> Claims:
                    if node not in tokens:
                        tokens[node] = relay.admit(node)
                    return relay.claims(tokens[node])

                one = Setting(table, clock, agent)
                one.blobs = Blobs(store)
                yield one


def test_tasks_are_granted_in_order_and_whole(setting: Setting) -> None:
    job = setting.submit(5)
    grants = setting.claim(3)
    assert [grant.task.id for grant in grants] == [TaskId(job.id, index) for index in (1, 2, 3)]
    assert [grant.job for grant in grants] == [job] * 3
    assert [grant.task for grant in grants] == setting.queue.tasks_at(job.id, [1, 2, 3])
    assert [grant.task.id.index for grant in setting.claim(9)] == [4, 5]


def test_a_claim_takes_what_fits_and_tells_what_never_will(setting: Setting) -> None:
    job = setting.submit(3)
    setting.queue.reset(job, [1], resources=Resources(cpu=100.0))
    setting.queue.reset(job, [2], resources=Resources(cpu=4.0))
    room = wide(5, free=Resources(cpu=2.0), total=Resources(cpu=8.0))
    claimed = setting.agent().claim(POOL, NodeName("n1"), room)
    assert [grant.task.id.index for grant in claimed.grants] == [3]
    assert claimed.too_big == (TaskId(job.id, 1),)
    assert claimed.open_jobs == 1


def test_an_empty_pool_has_no_open_job(setting: Setting) -> None:
    assert setting.agent().claim(POOL, NodeName("n1"), wide(5)).open_jobs == 0


def test_an_agent_alone_in_its_pool_leaves_nothing_to_others(setting: Setting) -> None:
    setting.submit(2)
    assert len(setting.claim(0, ahead=2, slots=0, free=Resources(cpu=0.0))) == 2


def test_two_agents_never_hold_the_same_task(setting: Setting) -> None:
    setting.submit(6)
    first, second = setting.claim(4, "n1"), setting.claim(4, "n2")
    assert sorted(grant.task.id.index for grant in (*first, *second)) == [1, 2, 3, 4, 5, 6]


def test_a_renewal_extends_the_lease_and_tells_the_start(setting: Setting) -> None:
    job = setting.submit(2)
    grants = setting.claim(2)
    setting.live(20.0, "n1")
    renewed = setting.agent().renew(grants, [None, setting.clock.now() - 5.0])
    standing = setting.queue.tasks_at(job.id, [1, 2])
    assert [grant.task for grant in renewed if grant] == standing
    assert [task.claimable_at for task in standing] == [setting.clock.now() + TERM_S] * 2
    assert [task.attempts[-1].started_at for task in standing] == [None, setting.clock.now() - 5.0]


def test_a_renewal_may_be_repeated_with_an_old_grant(setting: Setting) -> None:
    setting.submit(1)
    (grant,) = setting.claim()
    assert setting.agent().renew([grant], [None])[0] is not None
    assert setting.agent().renew([grant], [None])[0] is not None


def test_renewing_nothing_is_nothing(setting: Setting) -> None:
    assert list(setting.agent().renew([], [])) == []
    assert list(setting.agent().finish([])) == []


def test_an_outcome_is_recorded_as_it_was_told(setting: Setting) -> None:
    job = setting.submit(1)
    (grant,) = setting.claim()
    setting.clock.advance(5.0)
    usage = Usage(wall_s=4.5, cpu_s=4.0, peak_memory_bytes=7, read_bytes=1, written_bytes=2)
    told = succeeded(grant, setting.clock.now(), started_at=setting.clock.now() - 4.5, usage=usage, outputs=3)
    (recorded,) = setting.agent().finish([told])
    assert [recorded] == setting.queue.tasks_at(job.id, [1])
    assert recorded is not None
    assert (recorded.state, recorded.result, recorded.outputs) == (TaskState.SUCCEEDED, 1, 3)
    attempt = recorded.attempts[-1]
    assert (attempt.exit, attempt.usage) == (Exit(code=0), usage)
    assert (attempt.started_at, attempt.ended_at) == (told.report.started_at, told.report.ended_at)


def test_an_outcome_that_is_told_twice_is_recorded_once(setting: Setting) -> None:
    setting.submit(2)
    one, two = setting.claim(2)
    finals = [succeeded(one, setting.clock.now()), failed(two, setting.clock.now())]
    first = setting.agent().finish(finals)
    assert None not in first
    assert list(setting.agent().finish(finals)) == list(first)
    (other,) = setting.agent().finish([failed(one, setting.clock.now())])
    assert other is None, "another end than the recorded one is not recorded"


def test_more_outcomes_than_a_request_takes_are_recorded_in_order(setting: Setting) -> None:
    job = setting.submit(60)
    grants = setting.claim(60)
    long = "m" * 30_000
    finals = [
        Final(
            grant=grant,
            ending=Ending.FAILED,
            reason=Reason.EXIT,
            report=Report(ended_at=setting.clock.now(), exit=Exit(code=grant.task.id.index), message=long),
        )
        for grant in grants
    ]
    answers = setting.agent().finish(finals)
    codes = [task.attempts[-1].exit for task in setting.queue.tasks(job.id)]
    assert codes == [Exit(code=index) for index in range(1, 61)]
    assert [task.id.index for task in answers if task] == list(range(1, 61))


def test_what_is_given_back_is_pending_at_no_cost(setting: Setting) -> None:
    job = setting.submit(1)
    (grant,) = setting.claim()
    (task,) = setting.agent().finish([given_back(grant, setting.clock.now())])
    assert task is not None
    assert (task.state, task.failures, task.losses) == (TaskState.PENDING, 0, 0)
    assert [again.attempt for again in setting.claim()] == [2]
    assert setting.queue.tasks_at(job.id, [1])[0].attempts[0].message == "given back"


def test_a_failure_with_retries_left_waits_for_its_back_off(setting: Setting) -> None:
    setting.submit(1, retries=1)
    (grant,) = setting.claim()
    setting.agent().finish([failed(grant, setting.clock.now())])
    assert setting.claim() == []
    setting.clock.advance(1.1)
    assert [again.attempt for again in setting.claim()] == [2]


def test_a_former_holder_changes_nothing(setting: Setting) -> None:
    job = setting.submit(1)
    (old,) = setting.claim(name="n1")
    setting.live(2 * TERM_S + 1, "n2")
    (new,) = setting.claim(name="n2")
    assert new.attempt == 2
    assert list(setting.agent("n1").renew([old], [None])) == [None]
    assert list(setting.agent("n1").finish([succeeded(old, setting.clock.now())])) == [None]
    (task,) = setting.queue.tasks_at(job.id, [1])
    assert (task.state, task.losses) == (TaskState.CLAIMED, 1)
    assert setting.agent("n2").finish([succeeded(new, setting.clock.now())])[0] is not None


def test_a_late_outcome_is_accepted_while_nobody_took_over(setting: Setting) -> None:
    setting.submit(1)
    (grant,) = setting.claim()
    setting.clock.advance(100 * TERM_S)
    (task,) = setting.agent().finish([succeeded(grant, setting.clock.now() - 90 * TERM_S)])
    assert task is not None
    assert (task.state, task.attempts[-1].ended_at) == (TaskState.SUCCEEDED, setting.clock.now() - 90 * TERM_S)


def test_an_agent_does_not_take_over_what_it_holds_itself(setting: Setting) -> None:
    setting.submit(1)
    (grant,) = setting.claim()
    for _ in range(30):
        setting.clock.advance(TERM_S / 10)
        assert setting.claim() == []
    assert setting.agent().finish([succeeded(grant, setting.clock.now())])[0] is not None


def test_a_new_life_of_an_agent_takes_over_what_its_last_one_held(setting: Setting) -> None:
    setting.submit(1)
    setting.claim()
    setting.again("n1")
    assert setting.claim() == [], "the lease still runs"
    setting.live(2 * TERM_S, "n2")
    assert [grant.attempt for grant in setting.claim(name="n1")] == [2]


def test_the_result_of_a_removed_job_is_superseded(setting: Setting) -> None:
    job = setting.submit(1)
    (grant,) = setting.claim()
    setting.queue.forget(job)
    assert list(setting.agent().renew([grant], [None])) == [None]
    assert list(setting.agent().finish([succeeded(grant, setting.clock.now())])) == [None]
    assert setting.queue.outcomes(job.id) == {}


def test_a_cancel_is_told_by_a_look_and_by_a_renewal_and_is_final(setting: Setting) -> None:
    job = setting.submit(2)
    grants = setting.claim()
    assert setting.agent().look(setting.node(), grants).urgent == ()
    setting.queue.cancel_job(job)
    setting.agent().wait(0.05)
    assert setting.agent().look(setting.node(), grants).urgent == tuple(grants)
    (told,) = setting.agent().renew(grants, [None])
    assert told is not None
    assert told.task.cancel_asked
    setting.agent().wait(0.05)
    assert setting.agent().look(setting.node(), [told]).urgent == ()
    assert setting.claim() == []
    stopped = Final(grant=told, ending=Ending.CANCELLED, reason=Reason.CANCELLED, report=Report(ended_at=1e9))
    (task,) = setting.agent().finish([stopped])
    assert task is not None
    assert task.state is TaskState.CANCELLED


def test_a_look_tells_of_what_was_taken_away_and_of_orders(setting: Setting) -> None:
    job = setting.submit(2)
    grants = setting.claim(2)
    setting.agent().report(setting.node())
    setting.queue.reset(job, [2], force=True)
    setting.queue.order(setting.node(), NodeOrder.FINISH)
    setting.agent().wait(0.05)
    seen = setting.agent().look(setting.node(), grants)
    assert (seen.order, seen.urgent) == (NodeOrder.FINISH, (grants[1],))


def test_a_report_never_overwrites_an_order(setting: Setting) -> None:
    first = setting.agent().report(setting.node())
    assert first.order is None
    setting.queue.order(first, NodeOrder.RELEASE)
    assert setting.agent().report(setting.node(state=NodeState.DRAINING)).order is NodeOrder.RELEASE
    (row,) = setting.queue.peers(POOL)
    assert (row.state, row.order) == (NodeState.DRAINING, NodeOrder.RELEASE)


def test_an_agent_that_does_not_know_the_id_of_its_machine_takes_it_from_no_row(setting: Setting) -> None:
    told, made = (Machine(id=id, type="m.small", zone="eu-1a", spot=True, price=0.1) for id in (None, "i-1"))
    asked = setting.node("n1", state=NodeState.REQUESTED, machine=made)
    setting.queue.record_requested([asked])
    setting.agent("n1").report(setting.node("n1", machine=told))
    setting.agent("n2").report(setting.node("n2", machine=told))
    setting.queue.record_requested([setting.node("n2", state=NodeState.REQUESTED, machine=made)])
    assert [(row.machine, row.state) for row in setting.queue.peers(POOL)] == [(made, NodeState.ACTIVE)] * 2


def test_an_agent_is_told_of_packages_by_a_look_and_by_a_report_and_reads_them_then(setting: Setting) -> None:
    assert not setting.agent().packages(POOL)
    before = setting.agent().report(setting.node())
    assert before.packages == 0
    pool = Pool(id=POOL, provider="test", private=False, created_at=1.0)
    package = Package(number=0, name="web", content=Digest.of(b"web"), entry="kubeq-launch")
    first = setting.queue.add_package(pool, package, again=False)
    assert setting.queue.add_package(pool, package, again=False) == first
    setting.queue.tell_of_packages(POOL, first.number)
    assert setting.agent().look(setting.node(), []).packages == first.number
    other = setting.queue.add_package(pool, replace(package, name="other"), again=False)
    again = setting.queue.add_package(pool, package, again=True)
    assert first.number < other.number < again.number
    assert [node.name for node in setting.queue.tell_of_packages(POOL, again.number)] == ["n1"]
    assert setting.agent().report(setting.node()).packages == again.number
    assert list(setting.agent().packages(POOL)) == [other, again]


def test_peers_are_the_nodes_of_the_pool(setting: Setting) -> None:
    for name in ("n1", "n2"):
        setting.agent(name).report(setting.node(name, total=Resources(cpu=2.0, memory=10**9), note="fine"))
    peers = setting.agent("n1").peers(POOL)
    assert [peer.name for peer in peers] == ["n1", "n2"]
    assert list(peers) == list(setting.queue.peers(POOL))


def test_the_first_pin_holds_for_all(setting: Setting) -> None:
    job = setting.submit(2, image="python:3.12")
    setting.claim(1, "n1")
    setting.claim(1, "n2")
    first, second = (f"python@sha256:{letter * 64}" for letter in "ab")
    assert setting.agent("n1").pin(job.id, "image", first) == first
    assert setting.agent("n2").pin(job.id, "image", second) == first
    assert setting.queue.pinned_image(job.id) == first


def test_a_wait_ends_when_the_queue_changes(setting: Setting) -> None:
    agent = setting.agent()
    agent.wait(0.05)
    submitting = threading.Timer(0.2, setting.submit)
    submitting.start()
    began = time.monotonic()
    while not (granted := setting.claim()) and time.monotonic() - began < 15.0:
        agent.wait(20.0)  # each write of the submission ends it
    submitting.join()
    assert len(granted) == 1
    assert time.monotonic() - began < 15.0


def test_a_wait_where_nothing_changes_ends_in_its_time(setting: Setting) -> None:
    agent = setting.agent()
    agent.wait(0.05)
    began = time.monotonic()
    agent.wait(0.3)
    assert 0.2 <= time.monotonic() - began < 10.0


def test_the_time_of_the_queue_is_known_without_asking(setting: Setting) -> None:
    setting.submit(1)
    setting.claim()
    assert abs(setting.agent().now() - setting.clock.now()) < 0.001


def test_several_threads_use_one_agent_at_a_time(setting: Setting) -> None:
    job = setting.submit(60)
    grants = setting.claim(60)
    agent = setting.agent()

    def work(own: Sequence[Grant]) -> None:
        for grant in own:
            (renewed,) = agent.renew([grant], [None])
            assert renewed is not None
            assert agent.finish([succeeded(renewed, setting.clock.now())])[0] is not None

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, [grants[place::6] for place in range(6)]))
    assert {task.state for task in setting.queue.tasks(job.id)} == {TaskState.SUCCEEDED}


def test_a_pool_sees_nothing_of_another(setting: Setting) -> None:
    job = setting.submit(1)
    other = replace(job, id=JobId("other"), pool=replace_pool(job), spec=Digest.of(b"other"))
    setting.queue.begin(other)
    setting.queue.add_tasks(other, [wire.pending_body('["1"]')])
    setting.queue.seal(other)
    assert [grant.task.id.job for grant in setting.claim(9)] == [job.id]


def replace_pool(job: Job) -> Any:
    return type(job.pool)(f"not-{job.pool}")
