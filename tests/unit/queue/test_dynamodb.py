"""What is DynamoDB's own about its table: what is sent, what a lost answer, a refusal or a lagging index comes to.

The rows are in the stand-in; what it never does by itself is put in its place on the wire.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session

from kubeq import aws
from kubeq.core.clock import SystemClock
from kubeq.core.model import JobId, Node, NodeName, NodeState, TaskState
from kubeq.core.provisioning import Permission
from kubeq.errors import AccessDenied, BackendError
from kubeq.metering import Meter
from kubeq.queue.base import LARGE, Change, Key, Partition, Row, Standing, Swapped, Tally
from kubeq.queue.claims import Room
from kubeq.queue.dynamodb import NEW, UNCHANGED, DynamoDbTable
from kubeq.queue.dynamodb_calls import Calls
from kubeq.queue.dynamodb_items import SHARDS, hash_key
from kubeq.queue.dynamodb_setup import DynamoDbSetup
from kubeq.queue.queue import Queue
from kubeq.queue.rows import jobs_of, tasks_of
from tests.queued import BIG, POOL, claim, finish, states, submitted
from tests.stand_ins.dynamodb import made_table
from tests.stand_ins.ministack import REGION, Cloud, emulated
from tests.stand_ins.wire import Reply, Wire, answer, cut, lose_the_answer, through

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TASKS, SMALL = Partition(f"{LARGE}20260101-abc"), Partition("pool/p/jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A new table in the stand-in, and the line to it."""

    name: str
    table: DynamoDbTable
    wire: Wire
    queue: Queue

    def another(self, patience_s: float = 20.0) -> Rig:
        """The same table, over a line of its own."""
        return connected(self.name, patience_s)


def connected(name: str, patience_s: float = 20.0) -> Rig:
    meter = Meter()
    client = aws.client("dynamodb", REGION, meter)
    table = DynamoDbTable(REGION, name, patience_s=patience_s, connect=lambda meter: client)
    return Rig(name=name, table=table, wire=Wire(client), queue=Queue(table, SystemClock()))


@pytest.fixture
def rig(emulated_aws: Cloud) -> Rig:
    return connected(made_table(emulated_aws))


def refuse(code: str, status: int = 400) -> Reply:
    """DynamoDB's way to say no."""
    return answer(status, json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}"}).encode())


def lose_whatever_comes(request: AWSPreparedRequest) -> AWSResponse:
    """The request is answered with yes or no, and nobody hears it."""
    URLLib3Session().send(request)
    return cut(request)


THROTTLED = refuse("ProvisionedThroughputExceededException")
EXPIRED = refuse("ExpiredTokenException")


def row(name: str, partition: Partition = TASKS, **columns: Any) -> Row:
    return Row(Key(partition, name), 1, f"mark of {name}", Tally("pending"), 10.0, "{}")._replace(**columns)


def change(of: Row, mark: str = "a swap", **columns: Any) -> Change:
    return Change(of.key, of.version, mark, of.tally, of.claimable_at, of.body)._replace(**columns)


def sent(request: AWSPreparedRequest) -> dict[str, Any]:
    """What a request asks for."""
    asked: dict[str, Any] = json.loads(request.body)  # type: ignore[arg-type]
    return asked


def test_all_threads_have_one_client(rig: Rig) -> None:
    made: list[Meter] = []

    def connect(meter: Meter) -> DynamoDBClient:
        made.append(meter)
        time.sleep(0.05)
        return aws.client("dynamodb", REGION, meter)

    calls = Calls("the table", connect, 20.0)
    calls.each(lambda _: calls.ask(lambda client: client.describe_table(TableName=rig.name)), range(8))
    assert len(made) == 1


# what is sent


def test_in_a_jobs_whole_life_no_put_is_without_a_condition_and_nothing_is_scanned(rig: Rig) -> None:
    job = submitted(rig.queue, 30)
    finish(rig.queue, rig.queue.renew(claim(rig.queue, 10), [None] * 10))  # type: ignore[arg-type]
    rig.queue.cancel_job(job)
    rig.queue.reset(job, range(1, 31), succeeded=True)
    rig.queue.forget(job)
    assert set(rig.wire.counts()) == {"BatchGetItem", "DeleteItem", "PutItem", "Query"}
    puts = [sent(request) for request in rig.wire.of("PutItem")]
    assert {put["ConditionExpression"] for put in puts} == {NEW, UNCHANGED}
    assert {put["ReturnValuesOnConditionCheckFailure"] for put in puts} == {"ALL_OLD"}
    made = [put["Item"] for put in puts if put["ConditionExpression"] == NEW]
    assert len({(item["p"]["S"], item["n"]["S"]) for item in made}) == len(made) == 2 + 30


def test_only_the_due_index_is_read_without_consistency(rig: Rig) -> None:
    rig.table.list(TASKS, None, 10)
    rig.table.get([Key(TASKS, "a")])
    rig.table.count(TASKS, True)
    rig.table.due(TASKS, 10.0, None, 10)
    queries = [sent(request) for request in rig.wire.of("Query")]
    assert all(query.get("ConsistentRead") is True for query in queries if "IndexName" not in query)
    (get,) = [sent(request) for request in rig.wire.of("BatchGetItem")]
    assert get["RequestItems"][rig.name]["ConsistentRead"] is True


def test_a_poll_costs_one_query_for_the_open_jobs_and_one_a_shard_of_each(rig: Rig) -> None:
    assert claim(rig.queue, 4) == []
    assert rig.wire.counts() == {"Query": 1}
    submitted(rig.queue, 1)
    claim(rig.queue, 1)
    before = rig.wire.counts()["Query"]
    assert claim(rig.queue, 4) == []
    assert rig.wire.counts()["Query"] - before == 1 + SHARDS


def test_a_page_reads_little_more_than_it_gives(rig: Rig) -> None:
    rig.table.insert([row(f"{index:010d}") for index in range(1, 301)])
    assert len(rig.table.list(TASKS, None, 100).rows) == 100
    queries = [sent(request) for request in rig.wire.of("Query")]
    assert sum(query["Limit"] for query in queries) < 2 * 100


def test_a_shard_that_holds_more_than_its_share_is_asked_again(rig: Rig) -> None:
    crowded = hash_key(Key(TASKS, "0"), SHARDS)
    names = [name for name in map(str, range(3000)) if hash_key(Key(TASKS, name), SHARDS) == crowded][:150]
    rig.table.insert([row(name) for name in [*names, "x"]])
    listed = [each.key.name for each in rig.table.list(TASKS, None, 200).rows]
    assert listed == sorted([*names, "x"])


def test_rows_beyond_a_megabyte_a_page_are_all_listed_counted_and_due(rig: Rig) -> None:
    rows = [row(f"{index:02d}", SMALL, body="x" * 300_000) for index in range(8)]
    rig.table.insert(rows)
    assert list(rig.table.list(SMALL, None, 100).rows) == rows
    assert list(rig.table.due(SMALL, 10.0, None, 100).rows) == rows
    assert rig.table.count(SMALL, True) == {Tally("pending"): 8}
    assert list(rig.table.get([each.key for each in rows])) == rows


# lost answers


def test_an_insert_whose_answer_is_lost_is_made_once_and_by_us(rig: Rig) -> None:
    rig.wire.next("PutItem", lose_the_answer, lose_the_answer)
    assert list(rig.table.insert([row("a"), row("b")])) == [None, None]
    assert rig.wire.counts()["PutItem"] == 4
    assert [each.version for each in rig.table.list(TASKS, None, 9).rows] == [1, 1]


def test_a_swap_whose_answer_is_lost_is_won(rig: Rig) -> None:
    given = row("a")
    rig.table.insert([given])
    rig.wire.next("PutItem", lose_the_answer)
    (swapped,) = rig.table.swap([change(given, body="mine")])
    assert isinstance(swapped, Swapped) and swapped.row.version == 2 and swapped.row.body == "mine"


def test_a_swap_that_was_won_and_then_overtaken_is_told_who_stands_there(rig: Rig) -> None:
    given = row("a")
    rig.table.insert([given])
    other = rig.another()

    def lose_and_be_overtaken(request: AWSPreparedRequest) -> AWSResponse | None:
        try:
            return lose_the_answer(request)
        finally:
            standing = other.table.get([given.key])[0]
            assert standing is not None
            other.table.swap([change(standing, "theirs", body="theirs")])

    rig.wire.next("PutItem", lose_and_be_overtaken)
    (standing,) = rig.table.swap([change(given, body="mine")])
    assert isinstance(standing, Standing) and standing.row is not None
    assert (standing.row.version, standing.row.change_id) == (3, "theirs")


def test_a_request_that_never_arrived_is_made_again(rig: Rig) -> None:
    rig.wire.next("PutItem", cut)
    rig.wire.next("Query", cut)
    rig.wire.next("BatchGetItem", cut)
    rig.wire.next("DeleteItem", cut)
    given = row("a", SMALL)
    assert list(rig.table.insert([given])) == [None]
    assert list(rig.table.list(SMALL, None, 9).rows) == [given]
    assert list(rig.table.get([given.key])) == [given]
    rig.table.delete([given.key])
    assert list(rig.table.get([given.key])) == [None]


def test_a_claim_whose_answer_is_lost_is_granted_once(rig: Rig) -> None:
    submitted(rig.queue, 1)
    rig.wire.next("PutItem", lose_the_answer)
    (grant,) = claim(rig.queue, 1)
    assert grant.attempt == 1
    assert claim(rig.another().queue, 1, "n2") == []


# refusals that pass


def test_a_submission_that_is_throttled_all_the_time_completes_with_each_row_once(rig: Rig) -> None:
    rig.wire.next("PutItem", *[THROTTLED, through, refuse("ThrottlingException"), lose_whatever_comes] * 60)
    job = submitted(rig.queue, 100)
    assert states(rig.queue, job) == {TaskState.PENDING: 100}
    assert [task.id.index for task in rig.queue.tasks(job.id)] == list(range(1, 101))
    stored = rig.table.list(tasks_of(job.id), None, 1000).rows
    assert {each.version for each in stored} == {1}


@pytest.mark.parametrize(
    "code", ["TransactionConflictException", "InternalServerError", "RequestLimitExceeded", "ServiceUnavailable"]
)
def test_a_conflict_or_a_fault_of_the_service_is_no_answer(rig: Rig, code: str) -> None:
    given = row("a")
    rig.wire.next("PutItem", refuse(code, 500 if code == "InternalServerError" else 400), through, refuse(code))
    rig.table.insert([given])
    (swapped,) = rig.table.swap([change(given)])
    assert isinstance(swapped, Swapped)
    assert rig.wire.counts()["PutItem"] == 4


def test_patience_has_an_end_and_the_error_says_that_it_was_had(rig: Rig) -> None:
    hurried = rig.another(patience_s=0.3)
    hurried.wire.always("PutItem", THROTTLED)
    start = time.monotonic()
    with pytest.raises(BackendError, match="is throttled by AWS") as raised:
        hurried.table.insert([row("a")])
    assert raised.value.transient and raised.value.waited
    assert time.monotonic() - start < 60.0
    assert list(rig.table.insert([row("a")])) == [None]


def test_who_waits_long_is_told_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.wire.next("PutItem", *[THROTTLED] * 4)
    rig.table.insert([row("a")])
    rig.wire.next("PutItem", *[THROTTLED] * 4)
    rig.table.insert([row("b")])
    told = [record.getMessage() for record in caplog.records if record.name.startswith("kubeq")]
    assert told == [
        f"the table {rig.name} in {REGION} is throttled by AWS (ProvisionedThroughputExceededException); trying again"
    ]


def test_rows_that_were_left_out_of_an_answer_are_asked_for_again(rig: Rig) -> None:
    rows = [row(f"{index:03d}") for index in range(5)]
    rig.table.insert(rows)

    def half(request: AWSPreparedRequest) -> AWSResponse | None:
        keys = sent(request)["RequestItems"][rig.name]["Keys"]
        left = {"Keys": keys, "ConsistentRead": True}
        body = {"Responses": {rig.name: []}, "UnprocessedKeys": {rig.name: left}}
        return answer(200, json.dumps(body).encode())(request)

    rig.wire.next("BatchGetItem", half, half)
    assert list(rig.table.get([each.key for each in rows])) == rows
    assert rig.wire.counts()["BatchGetItem"] == 3


# refusals that stay


def test_a_row_over_the_size_is_refused_before_anything_of_its_batch_is_sent(rig: Rig) -> None:
    rows = [row(f"{index:02d}") for index in range(20)]
    with pytest.raises(BackendError, match=r"the row 'big' of job/20260101-abc cannot be stored: it has \d+,\d+ bytes"):
        rig.table.insert([*rows, row("big", body="x" * 410_000)])
    with pytest.raises(BackendError, match="the row '00' of"):
        rig.table.swap([change(rows[1]), change(rows[0], body="x" * 410_000)])
    assert rig.wire.sent == []


def test_a_batch_that_is_not_permitted_stops_at_once(rig: Rig) -> None:
    rig.wire.always("PutItem", refuse("AccessDeniedException"))
    with pytest.raises(AccessDenied, match=r"dynamodb:PutItem"):
        rig.table.insert([row(f"{index:04d}") for index in range(1000)])
    assert rig.wire.counts()["PutItem"] < 200


def test_nothing_of_a_failed_call_is_under_way_once_it_has_returned(rig: Rig) -> None:
    def late(request: AWSPreparedRequest) -> None:
        time.sleep(0.2)

    rig.wire.next("PutItem", refuse("AccessDeniedException"))
    rig.wire.always("PutItem", late)
    with pytest.raises(AccessDenied):
        rig.table.insert([row(f"{index:04d}") for index in range(100)])
    stored = len(rig.table.list(TASKS, None, 1000).rows)
    time.sleep(0.4)
    assert len(rig.table.list(TASKS, None, 1000).rows) == stored


def test_credentials_that_expire_during_a_job_cost_nothing_once_they_are_renewed(rig: Rig) -> None:
    job = submitted(rig.queue, 3)
    grants = claim(rig.queue, 3)
    rig.wire.always("PutItem", EXPIRED)
    with pytest.raises(AccessDenied, match="the AWS credentials have expired") as raised:
        rig.queue.renew(grants, [None] * 3)
    assert "log in again" in (raised.value.hint or "")
    assert not raised.value.transient
    rig.wire.always("PutItem", through)
    finish(rig.queue, grants)
    assert states(rig.queue, job) == {TaskState.SUCCEEDED: 3}


def test_a_table_that_does_not_exist_is_told_with_how_to_make_it(emulated_aws: Cloud) -> None:
    table = connected("kubeq-no-such-table").table
    uses: list[Callable[[], object]] = [
        lambda: table.insert([row("a")]),
        lambda: table.get([Key(TASKS, "a")]),
        lambda: table.list(TASKS, None, 1),
        lambda: table.due(TASKS, 1.0, None, 1),
    ]
    for use in uses:
        with pytest.raises(BackendError, match="the table kubeq-no-such-table in eu-west-1 does not exist") as raised:
            use()
        assert "kubeq setup" in (raised.value.hint or "")
        assert not raised.value.transient


# the index lags


class Frozen:
    """An index that shows what it showed when `record` let the queries through, each shard by itself."""

    def __init__(self) -> None:
        self._shown: dict[str, bytes] = {}

    def record(self, request: AWSPreparedRequest) -> AWSResponse:
        done = URLLib3Session().send(request)
        self._shown[self._shard(request)] = done.content
        return done

    def repeat(self, request: AWSPreparedRequest) -> AWSResponse | None:
        return answer(200, self._shown[self._shard(request)])(request)

    def _shard(self, request: AWSPreparedRequest) -> str:
        return str(sent(request)["ExpressionAttributeValues"][":p"]["S"])


def test_tasks_that_the_index_still_shows_as_pending_are_not_run_twice(rig: Rig) -> None:
    job, late, index = submitted(rig.queue, 4), rig.another(), Frozen()
    late.wire.always("Query", index.record)
    assert len(late.table.due(jobs_of(POOL), math.inf, None, 100).rows) == 1
    assert len(late.table.due(tasks_of(job.id), math.inf, None, 100).rows) == 4
    assert len(claim(rig.queue, 4)) == 4
    late.wire.always("Query", index.repeat)
    assert claim(late.queue, 4, "n2") == []
    assert late.wire.counts()["PutItem"] == 4, "it has not even tried"
    assert states(rig.queue, job) == {TaskState.CLAIMED: 4}
    assert {task.attempt for task in rig.queue.tasks(job.id)} == {1}


def test_a_job_is_not_closed_while_the_index_does_not_show_its_tasks_yet(rig: Rig) -> None:
    late, index = rig.another(), Frozen()
    late.wire.always("Query", index.record)
    empty = tasks_of(JobId("20260101-abc"))
    assert not late.table.due(empty, math.inf, None, 10).rows
    job = submitted(rig.queue, 2)
    late.wire.always("Query", lambda request: index.repeat(request) if "IndexName" in sent(request) else None)
    assert not late.queue.close_if_done(job)
    finish(rig.queue, claim(rig.queue, 2))
    assert late.queue.close_if_done(job)


# many at once


def test_sixteen_agents_claim_a_hundred_tasks_once_each(rig: Rig) -> None:
    tasks = 100
    job = submitted(rig.queue, tasks)
    taken: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        queue = rig.another().queue
        while True:
            grants = claim(queue, 4, f"n{number}")
            with lock:
                taken.extend((grant.task.id.index, grant.attempt) for grant in grants)
                if len(taken) >= tasks:
                    return
            finish(queue, grants)

    with ThreadPoolExecutor(16) as agents:
        list(agents.map(work, range(16)))
    assert sorted(taken) == [(index, 1) for index in range(1, tasks + 1)]
    assert set(states(rig.queue, job)) <= {TaskState.SUCCEEDED, TaskState.CLAIMED}


def test_a_node_that_may_do_only_what_the_policy_says_can_do_all_of_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with emulated(tmp_path, AUTH="true") as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        name = made_table(cloud)
        owner = connected(name)
        job = submitted(owner.queue, 6)
        node = identity(DynamoDbSetup(REGION, name).node_permissions())
        table = DynamoDbTable(REGION, name, connect=lambda meter: node)
        queue = Queue(table, SystemClock())
        me = Node(
            name=NodeName("n1"), pool=POOL, number=1, provider="ec2", state=NodeState.ACTIVE, host="h", requested_at=1.0
        )
        queue.report(me)
        grants = claim(queue, 6)
        queue.look(me, grants)
        finish(queue, [grant for grant in queue.renew(grants, [None] * 6) if grant])
        queue.claim(POOL, me.name, Room(free=BIG, total=BIG, starts=1))
        assert not owner.queue.refresh(job).open
        with pytest.raises(AccessDenied, match=r"AWS does not permit dynamodb:DeleteItem"):
            queue.forget(job)
        with pytest.raises(AccessDenied, match=r"dynamodb:Scan"), aws.plainly("dynamodb", "the table"):
            node.scan(TableName=name)


def identity(permissions: Sequence[Permission]) -> DynamoDBClient:
    """A client with the keys of a new user who has exactly these permissions."""
    iam = aws.client("iam", REGION, Meter())
    iam.create_user(UserName="node")
    statements = [
        {"Effect": "Allow", "Action": list(each.actions), "Resource": list(each.resources)} for each in permissions
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName="node", PolicyName="node", PolicyDocument=policy)
    keys = iam.create_access_key(UserName="node")["AccessKey"]
    session = boto3.session.Session(keys["AccessKeyId"], keys["SecretAccessKey"], region_name=REGION)
    return session.client("dynamodb")


# the clock


def test_the_clock_of_the_service_is_read_from_its_answers(rig: Rig) -> None:
    assert rig.table.clock_offset() == 0.0
    rig.table.get([Key(TASKS, "a")])
    assert abs(rig.table.clock_offset()) < 1.0
    date = formatdate(time.time() + 3600, usegmt=True)
    rig.wire.next("PutItem", answer(200, b"{}", {"date": date}))
    rig.table.insert([row("a")])
    assert rig.table.clock_offset() == pytest.approx(3600, abs=2.0)
