"""A whole agent on a table and a store in memory, with a runtime that does what the test says."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from kubeq.core import wire
from kubeq.core.clock import SystemClock
from kubeq.core.machines import Machine
from kubeq.core.model import (
    Exit,
    GoneReason,
    Job,
    JobId,
    NodeName,
    NodeOrder,
    NodeState,
    Policy,
    Pool,
    PoolId,
    Reach,
    Reason,
    Task,
    TaskState,
    Usage,
)
from kubeq.core.model import Node as NodeRow
from kubeq.core.outcome import Stop
from kubeq.core.outfit import Outfit
from kubeq.core.overlay import Laid, Overlay
from kubeq.core.packages import Package
from kubeq.core.requests import Requests
from kubeq.core.resources import Resources
from kubeq.core.spec import JobSpec
from kubeq.errors import AccessDenied, BackendError, ImageUnavailable
from kubeq.queue.claims import Claimed, Final, Grant, Room
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from kubeq.store.blobs import Blobs
from kubeq.store.checkpoints import Checkpoints
from kubeq.store.memory import MemoryStore
from kubeq.store.open import open_site
from kubeq.store.outputs import Outputs
from kubeq_consumer import agent, parting, silence
from kubeq_consumer.agent import Agent
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.finishing import Finisher
from kubeq_consumer.ledger import Ledger
from kubeq_consumer.outfitting import Outfitter
from kubeq_consumer.packages import Packages
from kubeq_consumer.preparing import Node
from kubeq_consumer.remotes import Remotes
from kubeq_consumer.runtimes.base import Execution, Leftover, Sink
from kubeq_consumer.settings import AgentConfig
from kubeq_consumer.shipping import Shipper
from kubeq_consumer.silence import LOST_S, REFUSED_S
from kubeq_consumer.spool import Spool
from tests.queued import submitted

POOL, NODE = PoolId("p"), NodeName("n1")
TOTAL = Resources(cpu=2.0, memory=10**9, gpus=2)


class Stage:
    """A runtime whose commands end when and how the test says; it remembers what it was asked."""

    name = "stage"

    def __init__(self) -> None:
        self.exit = Exit(code=0)
        self.hold = threading.Event()
        self.hold.set()
        self.tell = threading.Event()
        """Set: how a command ended is known as soon as it has; else only later, as with an engine that is slow."""
        self.tell.set()
        self.brief = 10**9
        """So many commands, those started first, end of themselves when the others do not."""
        self.started: list[Execution] = []
        self.parked: list[Execution] = []
        self.parks = True
        self.discarded = 0
        self.refuse: list[BackendError] = []
        self.without_image: list[BackendError] = []
        self.at_start: Callable[[Execution], None] = lambda execution: None
        self.at_usage: Callable[[], None] = lambda: None
        self.most_at_once = 0
        self.running_now = 0
        self.turn = threading.Lock()

    def resolve(self, image: str) -> str:
        return image

    def prepare(self, image: str) -> None:
        if self.without_image:
            raise self.without_image.pop(0)

    def create(self, execution: Execution) -> Act:
        if self.refuse:
            raise self.refuse.pop(0)
        return Act(self, execution)

    def leftovers(self, *_: object) -> Sequence[Leftover]:
        return ()

    def close(self) -> None: ...


class Act:
    """One command of a Stage: created, and once started, running."""

    def __init__(self, stage: Stage, execution: Execution) -> None:
        self._stage = stage
        self._execution = execution
        self._stopped = threading.Event()
        self._place = 0
        self._exit: Exit | None = None

    def park(self, output: Sink) -> bool:
        with self._stage.turn:
            self._stage.parked.append(self._execution)
        return self._stage.parks

    def start(self, output: Sink) -> Act:
        with self._stage.turn:
            self._stage.started.append(self._execution)
            self._place = len(self._stage.started)
            self._stage.running_now += 1
            self._stage.most_at_once = max(self._stage.most_at_once, self._stage.running_now)
        output.write(b"said\n")
        self._stage.at_start(self._execution)
        (self._execution.work / "made").write_text(str(self._execution.attempt))
        return self

    def discard(self) -> None:
        self._stage.discarded += 1

    def quiet(self, timeout: float) -> bool:
        deadline = time.monotonic() + min(timeout, 20.0)
        while self._exit is None and time.monotonic() < deadline:
            if self._stopped.is_set():
                self._finish(Exit(signal=15))
            elif self._stage.hold.wait(0.01) and self._place <= self._stage.brief:
                self._finish(self._stage.exit)
        return self._exit is not None

    def wait(self, timeout: float) -> Exit | None:
        return self._exit if self.quiet(timeout) and self._stage.tell.wait(min(timeout, 20.0)) else None

    def _finish(self, exit: Exit) -> None:
        self._exit = exit
        with self._stage.turn:
            self._stage.running_now -= 1

    def usage(self) -> Usage:
        self._stage.at_usage()
        return Usage(wall_s=0.1)

    def stop(self, grace: float) -> None:
        self._stopped.set()

    def remove(self) -> None: ...


class Leaping(SystemClock):
    """Time that passes as it does, and at once when the test says so."""

    leapt_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.leapt_s


class Flaky(Queue):
    """A queue that can be out of reach, all of it or some calls."""

    def __init__(self, table: MemoryTable) -> None:
        super().__init__(table, SystemClock())
        self.away: set[str] = set()
        self.takes: frozenset[NodeState] = frozenset(NodeState)
        """The rows that it takes when a node reports itself: those in one of these states."""
        self.refused = 0
        self.says = BackendError("the queue is away", transient=True)
        self.deaf = False
        """Whether it tells nobody that it has changed."""

    def _there(self, what: str) -> None:
        if what in self.away:
            self.refused += 1
            raise self.says

    def wait(self, seconds: float) -> None:
        if self.deaf:
            threading.Event().wait(seconds)
        super().wait(seconds)

    def claim(self, pool: PoolId, node: NodeName, room: Room) -> Claimed:
        self._there("claim")
        return super().claim(pool, node, room)

    def renew(self, grants: Sequence[Grant], started_at: Sequence[float | None]) -> Sequence[Grant | None]:
        self._there("renew")
        return super().renew(grants, started_at)

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        self._there("finish")
        return super().finish(finals)

    def report(self, node: NodeRow) -> NodeRow:
        self._there("report")
        if node.state not in self.takes:
            raise self.says
        return super().report(node)


class Theatre:
    """An agent, what it works with, and one job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stage = Stage()
        self.clock = Leaping()
        self.queue = Flaky(MemoryTable())
        self.store = MemoryStore()
        self.blobs = Blobs(self.store)
        self.outputs = Outputs(self.store)
        self.config = AgentConfig(
            pool=POOL,
            node=NODE,
            number=1,
            provider="local",
            queue_url="memory:",
            store_url="memory:",
            blobs_url="memory:",
            state_dir=root,
            cache_dir=root / "cache",
            log_path=None,
            linger_s=0.5,
            linger_others_s=0.5,
            poll_s=0.02,
            until_idle=True,
        )
        self.spool = Spool(root / "spool")
        self.agent = self._agent()
        self.reason: GoneReason | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _agent(self) -> Agent:
        cache = BlobCache(self.root / "cache", self.blobs)
        node = Node(
            config=self.config,
            clock=self.clock,
            now=self.queue.now,
            requests=lambda: Requests(queue=self.queue.requests, store=self.store.requests),
            claims=self.queue,
            blobs=self.blobs,
            outputs=self.outputs,
            checkpoints=Checkpoints(self.store),
            cache=cache,
            remotes=Remotes(self.root / "cache", cache, open_site),
            outfitter=Outfitter(self.config, self.blobs, cache),
            packages=Packages(self.config, self.queue, self.blobs, cache),
            shipper=Shipper(self.store),
            finisher=Finisher(self.queue, self.spool),
            runtime_for=lambda spec, again: self.stage,
            leaving=threading.Event(),
            starting=threading.Semaphore(4),
            total_memory=None,
        )
        return Agent(node, self.queue, Ledger(self.root / "ledger.json", TOTAL), TOTAL)

    def dress(self, outfit: Outfit) -> None:
        """Another agent, of a pool that asks for that."""
        self.config = replace(self.config, outfit=self.blobs.put_bytes(wire.encode_outfit(outfit)))
        self.agent = self._agent()

    def told(self, **changes: Any) -> None:
        """Another agent, whose settings differ in that."""
        self.config = replace(self.config, **changes)
        self.agent = self._agent()

    def _run(self) -> None:
        self.reason = self.agent.run(housekeep=lambda: None)

    def submit(self, tasks: int, policy: Policy | None = None, gpus: int = 0, **more: object) -> Job:
        resources = Resources(cpu=0.5 if gpus else 1.0, gpus=gpus)
        spec = JobSpec(command=("true", "{x}"), columns=("x",), resources=resources, log_limit=10_000, **more)  # type: ignore[arg-type]
        written = self.blobs.put_bytes(wire.encode_spec(spec))
        return submitted(self.queue, tasks, id="j1", pool=POOL, spec=written, resources=resources, policy=policy)

    def play(self) -> None:
        self._thread.start()

    def end(self, seconds: float = 30.0) -> GoneReason | None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the agent does not leave"
        return self.reason

    def task(self, index: int = 1) -> Task:
        return self.queue.tasks_at(JobId("j1"), [index])[0]


def eventually(question: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline, f"not in time: {what}"
        threading.Event().wait(0.01)


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    one = Theatre(tmp_path)
    yield one
    one.stage.hold.set()
    one.stage.tell.set()
    one.queue.away.clear()
    one.agent.ask_to_leave(GoneReason.TERMINATED, release=True)


def test_all_tasks_run_within_the_cpus_and_the_agent_leaves(theatre: Theatre) -> None:
    theatre.stage.hold.clear()
    theatre.submit(12)
    theatre.play()
    eventually(lambda: len(theatre.stage.started) == 2, "two commands run side by side")
    theatre.stage.hold.set()
    assert theatre.end() is GoneReason.IDLE
    assert {theatre.task(index).state for index in range(1, 13)} == {TaskState.SUCCEEDED}
    assert theatre.stage.most_at_once == 2
    assert theatre.outputs.read_result(theatre.task(7).id, 1)["files"][0]["path"] == "made"
    assert list((theatre.root / "nodes" / NODE / "attempts").iterdir()) == []


def test_a_slot_is_free_when_nothing_of_its_command_runs_although_its_end_is_told_later(theatre: Theatre) -> None:
    theatre.stage.tell.clear()
    theatre.submit(7)
    theatre.play()
    eventually(lambda: len(theatre.stage.started) == 7, "all have run, and how none of them ended is known")
    assert {theatre.task(index).state for index in range(1, 8)} == {TaskState.CLAIMED}
    assert theatre.stage.most_at_once <= 2
    theatre.stage.tell.set()
    theatre.end()
    assert {theatre.task(index).state for index in range(1, 8)} == {TaskState.SUCCEEDED}


def test_no_two_tasks_that_run_side_by_side_have_the_same_gpu(theatre: Theatre) -> None:
    theatre.stage.hold.clear()
    theatre.submit(4, gpus=1)
    theatre.play()
    eventually(lambda: len(theatre.stage.started) == 2, "as many run as there are GPUs, not as there are cpus")
    assert sorted(execution.devices for execution in theatre.stage.started) == [(0,), (1,)]
    theatre.stage.hold.set()
    theatre.end()
    assert theatre.stage.most_at_once == 2
    assert len(theatre.stage.started) == 4
    assert all(("CUDA_VISIBLE_DEVICES", str(each.devices[0])) in each.environment for each in theatre.stage.started)


def test_a_task_with_two_gpus_waits_for_both(theatre: Theatre) -> None:
    theatre.submit(3, gpus=2)
    theatre.play()
    theatre.end()
    assert [execution.devices for execution in theatre.stage.started] == [(0, 1)] * 3
    assert theatre.stage.most_at_once == 1


def test_a_node_on_which_a_package_runs_is_not_idle(theatre: Theatre) -> None:
    go = theatre.root / "go"
    program = theatre.blobs.put_bytes(f"until [ -e {go} ]; do sleep 0.05; done\n".encode())
    content = theatre.blobs.put_bytes(Overlay.of([Laid("kubeq-launch", 0o755, program)]).encode())
    pool = Pool(id=POOL, provider="local", private=False, created_at=1.0)
    package = Package(number=0, name="web", content=content, entry="kubeq-launch")
    theatre.queue.add_package(pool, package, again=False)
    theatre.config = replace(theatre.config, until_idle=False, linger_s=0.2, linger_others_s=0.2)
    theatre.agent = theatre._agent()
    theatre.play()
    started = theatre.root / "nodes" / NODE / "packages/1/started"
    eventually(started.exists, "the package runs")
    theatre._thread.join(2.0)
    assert theatre._thread.is_alive()
    go.touch()
    assert theatre.end() is GoneReason.IDLE


def test_a_node_that_is_alone_with_tasks_too_big_for_it_leaves_as_if_there_were_none(theatre: Theatre) -> None:
    theatre.config = replace(theatre.config, until_idle=False)
    theatre.agent = theatre._agent()
    theatre.submit(1, gpus=5)
    theatre.play()
    assert theatre.end() is GoneReason.IDLE
    assert theatre.task().state is TaskState.PENDING
    assert "asks for more than this node has" in (theatre.queue.peers(POOL)[0].note or "")


def two_run_and_more_are_parked(theatre: Theatre, tasks: int) -> Job:
    """The first two of the tasks have ended, two run on, and the others are parked."""
    theatre.stage.brief = 2
    job = theatre.submit(tasks)
    theatre.play()
    eventually(lambda: len(theatre.stage.parked) == tasks, "what does not run is parked")
    eventually(lambda: len(theatre.stage.started) == 4, "two run")
    return job


def test_a_command_is_parked_ahead_of_its_turn_and_starts_only_at_its_turn(theatre: Theatre) -> None:
    two_run_and_more_are_parked(theatre, 6)
    slots = [execution.slot for execution in theatre.stage.started[2:]]
    slots += [execution.slot for execution in theatre.stage.parked if execution not in theatre.stage.started]
    assert len(slots) == len(set(slots)) == 4, "nobody shares the slot of what runs"
    assert theatre.agent._ledger.free().cpu == 0.0
    theatre.stage.brief = 6
    theatre.end()
    assert {theatre.task(index).state for index in range(1, 7)} == {TaskState.SUCCEEDED}
    assert theatre.stage.most_at_once == 2 and theatre.stage.discarded == 0


def test_what_is_parked_when_its_agent_leaves_is_discarded_and_never_starts(theatre: Theatre) -> None:
    two_run_and_more_are_parked(theatre, 6)
    theatre.agent.ask_to_leave(GoneReason.TERMINATED, release=True)
    assert theatre.end() is GoneReason.TERMINATED
    assert len(theatre.stage.started) == 4 and theatre.stage.discarded == 2
    tasks = [theatre.task(index) for index in range(1, 7)]
    assert sorted(task.state for task in tasks) == [TaskState.PENDING] * 4 + [TaskState.SUCCEEDED] * 2
    assert not any(task.losses for task in tasks)


def test_a_kill_that_comes_while_a_command_is_parked_is_final(theatre: Theatre) -> None:
    job = two_run_and_more_are_parked(theatre, 5)
    theatre.queue.cancel_job(job)
    theatre.end()
    assert len(theatre.stage.started) == 4
    states = sorted(theatre.task(index).state for index in range(1, 6))
    assert states == [TaskState.CANCELLED] * 3 + [TaskState.SUCCEEDED] * 2


def test_a_kill_that_comes_when_nothing_runs_any_more_changes_no_outcome(theatre: Theatre) -> None:
    theatre.stage.tell.clear()
    job = theatre.submit(1)
    theatre.play()
    eventually(lambda: theatre.stage.started and not theatre.agent.describe().tasks, "its command has ended")
    theatre.queue.cancel_job(job)
    (attempt,) = theatre.agent._snapshot()
    attempt.stop(Stop.CANCELLED)
    theatre.stage.tell.set()
    theatre.end()
    task = theatre.task()
    assert (task.state, task.attempts[-1].exit) == (TaskState.SUCCEEDED, Exit(code=0))


def test_a_machine_that_is_in_trouble_costs_the_task_nothing(theatre: Theatre) -> None:
    theatre.stage.refuse = [
        BackendError("no engine", transient=True),
        AccessDenied("the socket may not be used"),
        BackendError("no room", transient=True),
    ]
    theatre.submit(1)
    theatre.play()
    theatre.end()
    task = theatre.task()
    assert (task.state, task.failures, task.losses) == (TaskState.SUCCEEDED, 0, 0)
    assert task.attempt == 4


def test_a_node_in_trouble_says_what_it_is_and_what_to_do(theatre: Theatre) -> None:
    theatre.stage.refuse = [BackendError("no engine", hint="start one", transient=True)]
    theatre.submit(1)
    theatre.play()
    eventually(lambda: "no engine (start one)" in (theatre.agent.describe().note or ""), "its note has the hint")
    theatre.end()


def test_what_the_runtime_refuses_for_good_is_the_tasks_failure(theatre: Theatre) -> None:
    theatre.stage.refuse = [BackendError("bind source path does not exist: /nowhere")]
    theatre.submit(1)
    theatre.play()
    theatre.end()
    task = theatre.task()
    assert (task.state, task.reason) == (TaskState.FAILED, Reason.INPUT)
    assert task.attempts[-1].message == "bind source path does not exist: /nowhere"


IMAGES = {"engine's id": "sha256:" + "1" * 64, "registry's digest": "python@sha256:" + "1" * 64}


@pytest.mark.parametrize(("digest", "reach"), [*product(IMAGES.values(), Reach)], ids=str)
def test_an_image_of_another_machines_engine_is_that_machines_to_run(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, digest: str, reach: Reach
) -> None:
    monkeypatch.setattr(MemoryTable, "reach", reach)
    theatre.stage.without_image = [ImageUnavailable(f"the image {digest} is not on this machine")] * 2
    theatre.submit(1, image="mine:1", image_digest=digest)
    theatre.play()
    theatre.end()
    task = theatre.task()
    if reach is Reach.NETWORK and digest == IMAGES["engine's id"]:
        assert (task.state, task.failures, task.attempt) == (TaskState.SUCCEEDED, 0, 3)
        told = str(task.attempts[0].message)
        assert "mine:1 (sha256:111111111111) is from no registry, and not on this machine" in told
    else:
        assert (task.state, task.reason) == (TaskState.FAILED, Reason.IMAGE)


def test_an_order_to_leave_that_comes_after_the_end_changes_no_outcome(theatre: Theatre) -> None:
    theatre.stage.at_usage = lambda: theatre.agent._begin_leaving(GoneReason.TERMINATED, True)
    theatre.submit(1)
    theatre.play()
    assert theatre.end() is GoneReason.TERMINATED
    assert theatre.task().state is TaskState.SUCCEEDED


def test_an_agent_told_to_leave_gives_back_what_runs_and_starts_nothing_more(theatre: Theatre) -> None:
    theatre.stage.hold.clear()
    theatre.submit(6)
    theatre.play()
    eventually(lambda: len(theatre.stage.started) == 2, "two commands run")
    theatre.agent.ask_to_leave(GoneReason.TERMINATED, release=True)
    assert theatre.end() is GoneReason.TERMINATED
    assert len(theatre.stage.started) == 2
    assert {theatre.task(index).state for index in range(1, 7)} == {TaskState.PENDING}
    assert sum(theatre.task(index).losses for index in range(1, 7)) == 0


def test_an_agent_that_leaves_while_the_queue_is_away_keeps_its_outcomes_on_disk(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (agent, parting):
        monkeypatch.setattr(module, "DELIVERY_PATIENCE_S", 1.0)
    theatre.queue.away = {"finish", "renew"}
    theatre.submit(1)
    theatre.play()
    eventually(lambda: list(theatre.spool.load()), "the outcome is spooled")
    theatre.agent.ask_to_leave(GoneReason.TERMINATED, release=True)
    theatre.end()
    theatre.queue.away.clear()
    (final,) = theatre.spool.load()
    assert theatre.queue.finish([final])[0] is not None
    assert theatre.task().state is TaskState.SUCCEEDED


def test_a_queue_that_comes_back_gets_the_outcome_and_nothing_ran_twice(theatre: Theatre) -> None:
    theatre.queue.away = {"finish"}
    theatre.submit(1)
    theatre.play()
    eventually(lambda: list(theatre.spool.load()), "the outcome is spooled")
    theatre.queue.away.clear()
    theatre.end()
    assert theatre.task().state is TaskState.SUCCEEDED
    assert len(theatre.stage.started) == 1
    assert list(theatre.spool.load()) == []


def test_a_killed_task_is_cancelled_while_it_runs(theatre: Theatre) -> None:
    theatre.stage.hold.clear()
    job = theatre.submit(1)
    theatre.play()
    eventually(lambda: theatre.stage.started, "it runs")
    theatre.queue.cancel_job(job)
    theatre.end()
    assert theatre.task().state is TaskState.CANCELLED


def test_a_store_that_refuses_for_good_fails_the_task_and_keeps_its_live_log(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = theatre.store.put

    def put(key: str, open: Callable[[], object], size: int, sha256: str) -> bool:
        if key.startswith("results/"):
            raise BackendError("no space left")
        return whole(key, open, size, sha256)  # type: ignore[arg-type]

    monkeypatch.setattr(theatre.store, "put", put)
    theatre.stage.hold.clear()
    theatre.submit(1)
    theatre.play()
    eventually(lambda: list(theatre.store.list("logs/")), "the output is shipped live")
    theatre.stage.hold.set()
    theatre.end()
    assert (theatre.task().state, theatre.task().reason) == (TaskState.FAILED, Reason.OUTPUT)
    assert list(theatre.store.list("logs/")), "what could not be stored is the only log there is"


def test_a_node_stays_while_a_job_of_its_pool_may_still_need_it(theatre: Theatre) -> None:
    theatre.config = AgentConfig(
        **{**{name: getattr(theatre.config, name) for name in AgentConfig.__slots__}, "until_idle": False}
    )
    theatre.agent = theatre._agent()
    other = Queue(theatre.queue._table, SystemClock())
    theatre.submit(1, Policy(lease_s=3.0))
    from kubeq.queue.claims import Room

    dead = other.claim(POOL, NodeName("dead"), Room(free=TOTAL, total=TOTAL, starts=1)).grants
    assert len(dead) == 1
    theatre.play()
    theatre.end()
    task = theatre.task()
    assert (task.state, task.attempt, task.losses) == (TaskState.SUCCEEDED, 2, 1)


def test_nothing_is_claimed_before_the_node_is_ready_and_its_row_says_that_it_starts(theatre: Theatre) -> None:
    go = theatre.root / "go"
    theatre.dress(Outfit(pre=f"until [ -e {go} ]; do sleep 0.05; done", post=f"rm {go}"))
    theatre.submit(1)
    theatre.play()
    eventually(lambda: theatre.queue.peers(POOL), "the node has reported itself")
    assert theatre.queue.peers(POOL)[0].state is NodeState.STARTING
    assert theatre.task().state is TaskState.PENDING
    go.touch()
    assert theatre.end() is GoneReason.IDLE
    assert theatre.task().state is TaskState.SUCCEEDED
    assert not go.exists(), "what it did last was to undo it"


def test_nothing_is_claimed_before_the_queue_has_taken_the_row_of_a_node_that_works(theatre: Theatre) -> None:
    theatre.queue.away, theatre.queue.deaf = {"report"}, True
    theatre.told(until_idle=False, linger_s=60.0, poll_s=600.0)
    theatre.submit(1)
    theatre.play()
    eventually(lambda: theatre.queue.refused >= 2, "it has had time to look for work, and reports itself again")
    assert (theatre.queue.peers(POOL), theatre.task().state) == ([], TaskState.PENDING)
    theatre.queue.away.clear()
    eventually(lambda: theatre.task().state is TaskState.SUCCEEDED, "the row is there, and then the attempt")
    assert theatre.queue.peers(POOL)[0].state is NodeState.ACTIVE


@pytest.mark.parametrize("withdrawn", [True, False])
def test_an_agent_whose_queue_is_back_as_it_leaves_for_want_of_work_claims_only_if_nobody_withdrew_it(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, withdrawn: bool
) -> None:
    monkeypatch.setattr(MemoryTable, "reach", Reach.NETWORK)
    theatre.told(until_idle=False, linger_s=0.1)
    theatre.agent._renewer.report()
    (row,) = theatre.queue.peers(POOL)
    assert row.state is NodeState.STARTING
    if withdrawn:
        gone = replace(row, state=NodeState.GONE, gone=GoneReason.TERMINATED, order=NodeOrder.SHRINK)
        assert theatre.queue.withdraw(gone)
    theatre.queue.takes = frozenset({NodeState.DRAINING})
    theatre.submit(1)
    theatre.play()
    reason, task = theatre.end(), theatre.task()
    if withdrawn:
        assert (reason, task.state, task.attempt) == (GoneReason.DRAINED, TaskState.PENDING, 0)
    else:
        assert (reason, task.state) == (GoneReason.IDLE, TaskState.SUCCEEDED)


def test_an_agent_that_was_told_to_leave_before_it_was_there_claims_nothing(theatre: Theatre) -> None:
    theatre.queue.report(replace(theatre.agent.describe(), state=NodeState.REQUESTED))
    theatre.queue.order(theatre.queue.peers(POOL)[0], NodeOrder.FINISH)
    theatre.submit(1)
    theatre.play()
    assert theatre.end() is GoneReason.DRAINED
    assert theatre.task().attempt == 0


def test_a_node_that_cannot_be_made_ready_leaves_saying_why_and_costs_no_task_anything(theatre: Theatre) -> None:
    theatre.dress(Outfit(pre="echo no disk; exit 9"))
    theatre.submit(1)
    theatre.play()
    assert theatre.end() is GoneReason.SETUP
    (node,) = theatre.queue.peers(POOL)
    assert (node.state, node.gone, node.note) == (
        NodeState.GONE, GoneReason.SETUP, "its --pre command failed: exit code 9: no disk"
    )  # fmt: skip
    task = theatre.task()
    assert (task.state, task.attempt) == (TaskState.PENDING, 0)


def test_a_node_that_is_told_to_leave_before_it_is_ready_leaves_at_once(theatre: Theatre) -> None:
    begun = theatre.root / "begun"
    theatre.dress(Outfit(pre=f"touch {begun}; sleep 60"))
    theatre.submit(1)
    theatre.play()
    eventually(begun.exists, "it has begun")
    theatre.agent.ask_to_leave(GoneReason.TERMINATED, release=True)
    assert theatre.end() is GoneReason.TERMINATED


def test_what_failed_at_the_very_end_stands_in_the_nodes_row(theatre: Theatre) -> None:
    theatre.dress(Outfit(post="exit 4"))
    theatre.submit(1)
    theatre.play()
    assert theatre.end() is GoneReason.IDLE
    assert theatre.queue.peers(POOL)[0].note == "its --post command failed: exit code 4"


def neighbour(theatre: Theatre) -> None:
    """Another node works in the pool."""
    now = theatre.queue.now()
    theatre.queue.report(
        replace(theatre.agent.describe(), name=NodeName("n2"), number=2, state=NodeState.ACTIVE, seen_at=now)
    )


def test_a_node_on_which_everything_fails_leaves_the_rest_to_others(theatre: Theatre) -> None:
    neighbour(theatre)
    theatre.stage.exit = Exit(code=1)
    theatre.submit(40, Policy(strikes=3))
    theatre.play()
    assert theatre.end() is GoneReason.STRIKES
    states = [theatre.task(index).state for index in range(1, 41)]
    assert 3 <= states.count(TaskState.FAILED) <= 20, "no more than what began while the third was being recorded"
    assert states.count(TaskState.PENDING) == 40 - states.count(TaskState.FAILED)
    row = next(node for node in theatre.queue.peers(POOL) if node.name == NODE)
    assert row.gone is GoneReason.STRIKES
    assert row.note is not None and "in a row of job j1 failed here, the last one: exit code 1" in row.note


def test_the_last_node_of_a_pool_stays_and_its_tasks_fail_by_their_own_limit(theatre: Theatre) -> None:
    theatre.stage.exit = Exit(code=1)
    theatre.submit(12, Policy(strikes=3))
    theatre.play()
    assert theatre.end() is GoneReason.IDLE
    assert {theatre.task(index).state for index in range(1, 13)} == {TaskState.FAILED}


def test_without_a_limit_no_node_leaves_for_what_fails(theatre: Theatre) -> None:
    neighbour(theatre)
    theatre.stage.exit = Exit(code=1)
    theatre.submit(12)
    theatre.play()
    assert theatre.end() is GoneReason.IDLE
    assert {theatre.task(index).state for index in range(1, 13)} == {TaskState.FAILED}


def test_a_node_tells_the_requests_it_has_made_with_its_reports_and_in_its_log(
    theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    theatre.submit(2)
    with caplog.at_level("INFO"):
        theatre.play()
        eventually(lambda: any(node.requests for node in theatre.queue.peers(POOL)), "a first report tells some")
        theatre.end()
    (node,) = theatre.queue.peers(POOL)
    assert node.requests is not None and node.state is NodeState.GONE
    assert node.requests.store == theatre.store.requests
    assert node.requests.queue["write"] > 2
    (said,) = [record.getMessage() for record in caplog.records if "has left" in record.getMessage()]
    assert re.search(r"requests: queue [\d,]+ (read|write), .*; store [\d,]+ put", said), said


def test_an_agent_whose_queue_stays_away_for_too_long_leaves(theatre: Theatre) -> None:
    theatre.told(lost_after_s=0.3)
    theatre.queue.away = {"claim"}
    theatre.play()
    assert theatre.end() is GoneReason.LOST


def test_an_agent_that_is_refused_before_it_may_claim_leaves_as_soon_as_any_other(theatre: Theatre) -> None:
    theatre.queue.away, theatre.queue.says = {"report"}, AccessDenied("the relay has let this node go")
    theatre.told(until_idle=False, linger_s=LOST_S)
    theatre.play()
    eventually(lambda: theatre.queue.refused, "it has been refused")
    theatre.clock.leapt_s = REFUSED_S + 1
    assert theatre.end() is GoneReason.LOST


def test_an_agent_that_holds_an_outcome_waits_for_its_queue_longer_than_one_that_holds_nothing(
    theatre: Theatre,
) -> None:
    theatre.told(lost_after_s=0.3)
    theatre.submit(1)
    theatre.stage.hold.clear()
    theatre.play()
    eventually(lambda: theatre.stage.started, "it runs")
    theatre.queue.away = {"claim", "finish"}
    theatre.stage.hold.set()
    time.sleep(1.0)
    theatre.queue.away = {"claim"}
    assert theatre.end() is GoneReason.LOST
    assert not list(theatre.spool.load()), "it was delivered when the queue was there again"
    assert theatre.task().state is TaskState.SUCCEEDED


def test_on_a_machine_of_a_cloud_no_task_acts_as_the_machine_unasked(theatre: Theatre) -> None:
    theatre.told(machine=Machine(type="t", zone="z", spot=False))
    theatre.submit(1)
    theatre.play()
    assert theatre.end() is GoneReason.IDLE
    task = theatre.task()
    assert (task.state, task.reason) == (TaskState.FAILED, Reason.INPUT)
    assert "a machine of a cloud, it could act as the machine: it has no container" in str(task.attempts[-1].message)


def test_on_a_machine_of_a_cloud_a_task_acts_as_the_machine_where_that_was_allowed(theatre: Theatre) -> None:
    theatre.told(machine=Machine(type="t", zone="z", spot=False))
    theatre.submit(1, allow_node_credentials=True)
    theatre.play()
    theatre.end()
    assert theatre.task().state is TaskState.SUCCEEDED


def test_what_an_attempt_leaves_its_next_one_finds_and_a_success_removes_it(theatre: Theatre) -> None:
    found: list[list[str]] = []

    def go_on(execution: Execution) -> None:
        assert execution.checkpoint is not None
        steps = execution.checkpoint / "steps"
        found.append(steps.read_text().split() if steps.exists() else [])
        steps.write_text(" ".join([*found[-1], f"step{execution.attempt}"]))
        theatre.stage.exit = Exit(code=0 if execution.attempt == 3 else 1)

    theatre.stage.at_start = go_on
    theatre.submit(1, Policy(retries=2))
    theatre.play()
    theatre.end()
    assert found == [[], ["step1"], ["step1", "step2"]]
    assert theatre.task().state is TaskState.SUCCEEDED
    assert list(theatre.store.list("checkpoints/")) == []


def test_a_node_that_leaves_at_once_stores_what_its_attempts_leave_before_it_gives_them_back(theatre: Theatre) -> None:
    def leave_something(execution: Execution) -> None:
        assert execution.checkpoint is not None
        (execution.checkpoint / "state").write_text("half")

    theatre.stage.at_start = leave_something
    theatre.stage.hold.clear()
    theatre.submit(1)
    theatre.play()
    eventually(lambda: theatre.stage.started, "it runs")
    theatre.agent.ask_to_leave(GoneReason.PREEMPTED, release=True)
    assert theatre.end() is GoneReason.PREEMPTED
    (kept,) = theatre.store.list("checkpoints/j1/1/")
    assert kept.key.startswith("checkpoints/j1/1/1-")
    task = theatre.task()
    assert (task.state, task.failures, task.losses) == (TaskState.PENDING, 0, 0)


def test_a_task_that_leaves_nothing_costs_no_request_for_it(theatre: Theatre) -> None:
    theatre.submit(3)
    theatre.play()
    theatre.end()
    asked = theatre.store.requests
    assert "list" not in asked
    assert "delete" not in asked


def test_an_agent_leaves_signs_that_its_queue_knows_it_and_that_it_lives(theatre: Theatre) -> None:
    theatre.told(run_dir=theatre.root)
    theatre.submit(1)
    theatre.stage.hold.clear()
    theatre.play()
    eventually(lambda: (theatre.root / "registered").exists(), "it is registered")
    theatre.stage.hold.set()
    assert theatre.end() is GoneReason.IDLE
    assert (theatre.root / "alive").exists()


def test_what_runs_is_not_touched_however_long_the_queue_stays_away(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    theatre.told(lost_after_s=0.3)
    monkeypatch.setattr(silence, "LOST_S", 0.3)
    for module in (agent, parting):
        monkeypatch.setattr(module, "DELIVERY_PATIENCE_S", 1.0)
    theatre.stage.hold.clear()
    theatre.submit(1)
    theatre.play()
    eventually(lambda: theatre.stage.started, "it runs")
    theatre.queue.away = {"claim", "renew", "finish"}
    time.sleep(1.0)
    assert theatre.stage.running_now == 1
    theatre.stage.hold.set()
    assert theatre.end() is GoneReason.LOST
    assert len(list(theatre.spool.load())) == 1, "its outcome stays on the disk"
