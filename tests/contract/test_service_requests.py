"""How many requests of the services each step of a job costs, and what of that is billed: no more than `bench.budget`
says, from which docs/cost.md is reckoned. How many calls of queue and store a step makes is held elsewhere
(tests/unit/queue/test_request_budget.py); here each call is seen as the service sees it.

Over the stand-ins of both clouds and over what is embedded; with `-m live` the real services are asked.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from bench.budget import PENDING_BYTES, Ask, QueueBudget, StoreBudget, idle_hour
from bench.budget_queues import Datastore, DynamoDb, Sqlite
from bench.budget_stores import CLOUD_STORAGE, S3, Directory
from kubeq.actions.fetch import FetchRequest, fetch_job
from kubeq.actions.launching import pool_of_request
from kubeq.actions.plan import make_plan
from kubeq.actions.preflight import preflight
from kubeq.actions.session import Session
from kubeq.actions.submit import submit
from kubeq.config import Config, load_config, with_flags
from kubeq.core import wire
from kubeq.core.clock import SystemClock
from kubeq.core.digest import Digest
from kubeq.core.model import Ending, Exit, Job, JobId, Node, NodeName, NodeState, Policy, PoolId
from kubeq.core.requests import Requests
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.queue.base import RecordTable
from kubeq.queue.claims import Final, Grant, Room
from kubeq.queue.dynamodb import DynamoDbTable
from kubeq.queue.granting import Granting
from kubeq.queue.queue import Queue
from kubeq.queue.sqlite import SqliteTable
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import Blobs
from kubeq.store.local import LocalStore
from kubeq.store.logs import LogWriter
from kubeq.store.open import open_site
from kubeq.store.outputs import OutputFile, ResultDocument, result_document
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.remotes import Remotes
from kubeq_consumer.staging import stage_in
from tests.providers import FakeProvider
from tests.stand_ins import gcs, live, s3
from tests.stand_ins.dynamodb import live_table, made_table
from tests.stand_ins.dynamodb_units import Units
from tests.stand_ins.ministack import REGION

TASKS, INPUTS, CLAIMED, OUTPUTS = 1_201, 150, 16, 2
"""More tasks than one commit of Datastore or one batch of DynamoDB takes, more inputs than are asked for one by one."""
FEW = 101
"""Tasks where it is the store that is asked."""
NODE = NodeName("0123456789ab-1")
BIG = Resources(cpu=1000.0)
NOTHING = Ask()
WRITES = ("write", "writes")
"""The dear part of a queue's bill, in DynamoDB's and in Datastore's words."""


class Clock(SystemClock):
    """Of which the steady part can be moved on."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass
class Plane:
    """A queue and a store, what they may be asked, and what of it is billed, if that is known."""

    table: RecordTable
    store: ObjectStore
    queue_budget: QueueBudget
    store_budget: StoreBudget
    folder: Path
    billed: Callable[[], Mapping[str, float]] | None = None
    clock: Clock = field(default_factory=Clock)
    _seen: list[Counter[str]] = field(default_factory=lambda: [Counter(), Counter(), Counter()])

    def session(self, **flags: object) -> Session:
        """A submitter's, in the folder."""
        session = Session(with_flags(self._config(), flags), self.clock)
        session.table, session.store = self.table, self.store  # type: ignore[misc]
        session.provider = FakeProvider()  # type: ignore[misc]
        return session

    def taken(self) -> Ask:
        """What was asked, of both, since the last question. (The bill is known of queues only.)"""
        now = [
            Counter(self.table.requests),
            Counter(self.store.requests),
            Counter(self.billed() if self.billed else {}),
        ]
        queue, store, bill = (new - old for new, old in zip(now, self._seen, strict=True))
        self._seen = now
        bill.pop("small", None)  # of Datastore: free
        return named(Ask(queue, bill), Ask(store))

    def held(self, step: str, queue: Ask = NOTHING, store: Ask = NOTHING) -> None:
        """What was asked since the last question is no more than that, and nothing else; writes are as many."""
        taken, allowed = self.taken(), named(queue, store)
        assert over(taken, allowed) == [], step
        if self.billed is not None:
            assert [taken.billed.get(kind, 0) for kind in WRITES] == [allowed.billed.get(kind, 0) for kind in WRITES], (
                step
            )

    def _config(self) -> Config:
        environ = {"XDG_STATE_HOME": str(self.folder / "state"), "XDG_CACHE_HOME": str(self.folder / "cache")}
        return load_config(
            file=None, profile=None, overrides=(), environ=environ, cwd=self.folder, home=self.folder / "nobody"
        )


def named(queue: Ask, store: Ask = NOTHING) -> Ask:
    """Both together, with the queue's bill."""
    requests = {f"queue {kind}": number for kind, number in queue.requests.items()}
    return Ask(requests | {f"store {kind}": number for kind, number in store.requests.items()}, queue.billed)


def over(asked: Ask, allowed: Ask) -> Sequence[str]:
    """Where more was asked, or billed, than is allowed."""
    return [
        f"{kind}: {number} where {bound.get(kind, 0)} are allowed"
        for counts, bound in ((asked.requests, allowed.requests), (asked.billed, allowed.billed))
        for kind, number in counts.items()
        if number > bound.get(kind, 0)
    ]


def _aws(request: pytest.FixtureRequest, folder: Path) -> Plane:
    cloud, units = request.getfixturevalue("emulated_aws"), Units()
    table = DynamoDbTable(REGION, made_table(cloud), connect=units.connect)
    return Plane(table, s3.emulated_store(cloud), DynamoDb(), S3, folder, lambda: units.billed)


def _gcp(request: pytest.FixtureRequest, folder: Path) -> Plane:
    server, table = request.getfixturevalue("emulated_datastore"), request.getfixturevalue("open_datastore")()
    return Plane(table, gcs.emulated_store(request), Datastore(), CLOUD_STORAGE, folder, lambda: server.billed)


def _aws_live(request: pytest.FixtureRequest, folder: Path) -> Plane:
    return Plane(live_table()(), live.live_store(request, s3.LIVE), DynamoDb(), S3, folder)


def _gcp_live(request: pytest.FixtureRequest, folder: Path) -> Plane:
    table = request.getfixturevalue("open_live_datastore")()
    return Plane(table, live.live_store(request, gcs.LIVE), Datastore(), CLOUD_STORAGE, folder)


def _embedded(request: pytest.FixtureRequest, folder: Path) -> Plane:
    return Plane(SqliteTable(folder / "queue.db"), LocalStore(folder / "store"), Sqlite(), Directory(), folder)


PLANES: dict[str, Callable[[pytest.FixtureRequest, Path], Plane]] = {
    "aws": _aws,
    "aws-live": _aws_live,
    "embedded": _embedded,
    "gcp": _gcp,
    "gcp-live": _gcp_live,
}
NAMES = [pytest.param(name, marks=[pytest.mark.live] * name.endswith("-live")) for name in PLANES]


@pytest.fixture(params=NAMES)
def plane(request: pytest.FixtureRequest, tmp_path: Path) -> Plane:
    made = PLANES[request.param](request, tmp_path)
    made.taken()
    return made


def room(starts: int) -> Room:
    return Room(free=BIG, total=BIG, starts=starts)


def test_no_step_from_the_submission_to_the_results_asks_for_more_than_its_budget(plane: Plane) -> None:
    queue, store = plane.queue_budget, plane.store_budget
    job = submitted(plane)
    plane.held("submission", queue.submit(TASKS), store.submit(INPUTS + 2, 0))
    agent = Granting(plane.table, plane.clock)
    grants = agent.claim(job.pool, NODE, room(CLAIMED)).grants
    assert len(grants) == CLAIMED
    plane.held("claim", queue.claim(CLAIMED))
    blobs = Blobs(plane.store)
    cache = BlobCache(plane.folder / "blobs", blobs)
    staged_in(plane, blobs, cache, job)
    plane.held("stage in, cold node", store=store.stage_in(INPUTS))
    staged_in(plane, blobs, cache, job)
    plane.held("stage in, warm node", store=store.stage_in(0))
    grants = [grant for grant in agent.renew(grants, [1.0] * CLAIMED) if grant is not None]
    plane.held("renewal", queue.renew(CLAIMED))
    log = LogWriter(plane.store, grants[0].task.id, 1)
    log.append(b"it goes on\n")
    plane.held("a piece of a log", store=store.segment())
    for grant in grants:
        publish(plane, grant)
    plane.held("outputs", store=store.publish(OUTPUTS).times(CLAIMED))
    done = Report(ended_at=2.0, exit=Exit(code=0), outputs=OUTPUTS)
    agent.finish([Final(grant=grant, ending=Ending.SUCCEEDED, report=done) for grant in grants])
    plane.held("finish", queue.finish(CLAIMED))
    assert sum(Queue(plane.table, plane.clock).outcomes(job.id).values()) == TASKS
    plane.held("status tick", queue.count(TASKS, 2, PENDING_BYTES))
    fetched = fetch_job(plane.session(), job, FetchRequest(destination=plane.folder / "out"))
    assert len(fetched.tasks) == CLAIMED
    plane.held("fetch", queue.listing(TASKS, PENDING_BYTES), store.fetch(OUTPUTS).times(CLAIMED))


def test_a_submission_of_what_the_store_has_sends_nothing(plane: Plane) -> None:
    submitted(plane, name="first", tasks=FEW)
    plane.taken()
    submitted(plane, name="second", tasks=FEW)
    plane.held("submission", plane.queue_budget.submit(FEW), plane.store_budget.submit(0, INPUTS + 2))


def test_an_idle_hour_of_a_node_asks_for_no_more_than_its_budget(plane: Plane) -> None:
    agent, budget = Granting(plane.table, plane.clock), plane.queue_budget
    node = Node(
        name=NODE,
        pool=PoolId("0123456789ab"),
        number=1,
        provider="local",
        state=NodeState.ACTIVE,
        host="a-host-with-a-usual-name.example.org",
        total=Resources(cpu=8.0, memory=32 * 10**9),
        requested_at=plane.clock.now(),
        requests=Requests(queue=plane.table.requests, store=plane.store.requests),
    )
    agent.report(node)
    plane.taken()
    agent.claim(node.pool, NODE, room(8))
    look = plane.taken()
    agent.report(node)
    report = plane.taken()
    agent.peers(node.pool)
    around = plane.taken()
    hour = look.times(1200) + report.times(60) + around.times(120)
    assert over(hour, named(idle_hour(budget))) == []


def test_an_idle_hour_beside_a_job_that_has_nothing_for_the_node_asks_for_no_more_than_its_budget(plane: Plane) -> None:
    agent, budget = Granting(plane.table, plane.clock), plane.queue_budget
    job = small_job(plane, tasks=20)
    assert len(agent.claim(job.pool, NODE, room(20)).grants) == 20
    agent.claim(job.pool, NODE, room(8))
    plane.taken()
    assert agent.claim(job.pool, NODE, room(8)).open_jobs == 1
    plane.held("a look for work beside a job", budget.claim(0))
    plane.clock.ahead_s += 41
    agent.claim(job.pool, NODE, room(8))
    plane.held("a look that asks whether the job is done", budget.claim(0) + budget.closing())


def submitted(plane: Plane, name: str = "sweep", tasks: int = TASKS) -> Job:
    """A job whose tasks share inputs, with all that `kubeq sub` tries before."""
    (plane.folder / "in").mkdir(exist_ok=True)
    for number in range(INPUTS):
        (plane.folder / f"in/{number}.txt").write_text(f"input {number}")
    session = plane.session(seq=f"1-{tasks}", image="none", upload=["in"], name=name)
    plan = make_plan(("true", "{index}"), session.config, session.provider)
    preflight(session, plan)
    return submit(session, plan, pool_of_request(session, private=False), pinned=None).job


def small_job(plane: Plane, tasks: int) -> Job:
    """A job of its own pool, with nothing in the store."""
    queue = Queue(plane.table, plane.clock)
    job = Job(
        id=JobId("20260102-030405-0001"),
        name="small",
        pool=PoolId("ba9876543210"),
        user="ada",
        host="engine",
        submitted_at=plane.clock.now(),
        total=tasks,
        spec=Digest.of(b"spec"),
        columns=("x",),
        resources=Resources(),
        policy=Policy(),
        results_url=plane.store.url,
    )
    queue.begin(job)
    queue.add_tasks(job, (wire.pending_body(json.dumps([str(number)])) for number in range(tasks)))
    return queue.seal(job)


def staged_in(plane: Plane, blobs: Blobs, cache: BlobCache, job: Job) -> None:
    """All that a node fetches for a task."""
    spec = wire.decode_spec(blobs.read(job.spec))
    assert spec.inputs is not None
    work = plane.folder / f"work-{len(list(plane.folder.iterdir()))}"
    work.mkdir()
    manifest = blobs.read_manifest(spec.inputs)
    stage_in(manifest, cache, Remotes(plane.folder / "remotes", cache, open_site), work)
    assert len(list((work / "in").iterdir())) == INPUTS


def publish(plane: Plane, grant: Grant) -> None:
    """What an attempt leaves: two files and a line of output."""
    contents = {f"made-{number}": b"x" * number for number in range(OUTPUTS)}
    files = [
        OutputFile(path=path, open=partial(io.BytesIO, content), digest=Digest.of(content))
        for path, content in contents.items()
    ]
    stdout = plane.folder / "stdout"
    stdout.write_bytes(b"hello\n")
    document = result_document(
        ResultDocument(
            task=grant.task.id,
            attempt=grant.attempt,
            parameters={},
            command=["true"],
            state=Ending.SUCCEEDED,
            node=NODE,
            claimed_at=1.0,
            files=[file.entry for file in files],
            stdout_size=6,
        )
    )
    plane.session().outputs.publish(grant.task.id, grant.attempt, files, stdout, document)
