"""What AWS may have against a submission, each told in a sentence before anything is stored; and what it costs."""

from __future__ import annotations

import json
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest

from kubeq import aws
from kubeq.actions.plan import make_plan
from kubeq.actions.preflight import preflight
from kubeq.actions.session import Session
from kubeq.core.clock import SystemClock
from kubeq.errors import BackendError, KubeqError
from kubeq.metering import Meter
from kubeq.queue.dynamodb import DynamoDbTable
from kubeq.store.s3 import S3Store
from kubeq.store.s3_bucket import Bucket
from tests.jobs import FakeClock, session_in
from tests.providers import FakeProvider
from tests.stand_ins.dynamodb import made_table
from tests.stand_ins.ministack import REGION, Cloud
from tests.stand_ins.s3 import PREFIX, emulated_bucket, impatient
from tests.stand_ins.wire import Reply, Wire, answer, refuse


class Rig:
    """A session whose queue and store are in the stand-in, and the lines to both."""

    def __init__(self, root: Path, table: DynamoDbTable, bucket: Bucket) -> None:
        self.session = Session(session_in(root, FakeClock()).config, SystemClock())
        self.bucket = bucket
        self.session.table = table  # type: ignore[misc]
        self.session.store = S3Store(bucket, PREFIX, patience=impatient())  # type: ignore[misc]
        self.session.provider = FakeProvider()  # type: ignore[misc]

    def go(self) -> None:
        plan = make_plan(("true",), self.session.config, self.session.provider)
        preflight(self.session, plan, lambda image: "python@sha256:" + "ab" * 32)

    def refusal(self) -> KubeqError:
        with pytest.raises(KubeqError) as caught:
            self.go()
        assert caught.value.hint
        assert not self.session.config.state_dir.exists()
        return caught.value


def table_of(name: str, region: str = REGION) -> tuple[DynamoDbTable, Wire]:
    client = aws.client("dynamodb", region, Meter())
    return DynamoDbTable(region, name, patience_s=0.2, connect=lambda meter: client), Wire(client)


@pytest.fixture
def rig(tmp_path: Path, emulated_aws: Cloud) -> Rig:
    return Rig(tmp_path, table_of(made_table(emulated_aws))[0], emulated_bucket(emulated_aws))


def test_it_is_three_requests_and_leaves_nothing(rig: Rig, emulated_aws: Cloud) -> None:
    rig.session.table = table = DynamoDbTable(REGION, made_table(emulated_aws))  # type: ignore[misc]
    before = Counter(rig.session.store.requests)
    rig.go()
    assert dict(table.requests) == {"Query": 1}
    assert Counter(rig.session.store.requests) - before == {"PutObject": 1, "DeleteObjects": 1}
    assert list(rig.session.store.list("")) == []


def no(code: str, status: int = 400, headers: dict[str, str] | None = None) -> Reply:
    """DynamoDB's way to refuse."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "because"}
    return answer(status, json.dumps(body).encode(), headers)


A_DAY_AGO = {"date": formatdate(1_700_000_000, usegmt=True)}
OF_THE_QUEUE: dict[str, tuple[Reply, str, str]] = {
    "denied": (no("AccessDeniedException"), "AWS does not permit dynamodb:Query", "least policy"),
    "expired": (no("ExpiredTokenException"), "the AWS credentials have expired", "aws sso login"),
    "unknown key": (no("UnrecognizedClientException"), "AWS does not know the access key", "AWS_PROFILE"),
    "skewed": (no("InvalidSignatureException", 403, A_DAY_AGO), "this machine's clock is", "set the clock"),
    "throttled": (no("ThrottlingException"), "is throttled by AWS", "nothing is lost"),
}


@pytest.mark.parametrize("why", OF_THE_QUEUE)
def test_what_dynamodb_refuses_is_told_with_the_table(rig: Rig, emulated_aws: Cloud, why: str) -> None:
    reply, said, hint = OF_THE_QUEUE[why]
    name = made_table(emulated_aws)
    rig.session.table, wire = table_of(name)  # type: ignore[misc]
    wire.always("Query", reply)
    error = rig.refusal()
    assert f"the table {name}" in error.message and said in error.message
    assert hint in str(error.hint)
    assert set(wire.counts()) == {"Query"}


OF_THE_STORE: dict[str, tuple[Reply, str, str]] = {
    "denied": (refuse(403, "AccessDenied"), "AWS does not permit s3:PutObject", "least policy"),
    "expired": (refuse(400, "ExpiredToken"), "the AWS credentials have expired", "aws sso login"),
    "skewed": (refuse(403, "RequestTimeTooSkewed"), "this machine's clock is", "set the clock"),
    "throttled": (refuse(503, "SlowDown"), "is throttled by AWS", "nothing is lost"),
    "elsewhere": (refuse(301, "PermanentRedirect", Region="eu-south-2"), "is in the region eu-south-2", "eu-south-2"),
}


@pytest.mark.parametrize("why", OF_THE_STORE)
def test_what_s3_refuses_is_told_with_the_bucket(rig: Rig, why: str) -> None:
    reply, said, hint = OF_THE_STORE[why]
    Wire(rig.bucket.client).always("PutObject", reply)
    error = rig.refusal()
    assert rig.bucket.name in error.message and said in error.message
    assert hint in str(error.hint)
    assert list(rig.session.store.list("")) == []


def test_a_table_that_is_not_there_and_one_without_its_index_are_two_things(rig: Rig, emulated_aws: Cloud) -> None:
    lost = emulated_aws.name()
    rig.session.table = table_of(lost)[0]  # type: ignore[misc]
    assert f"the table {lost} in {REGION} does not exist" in rig.refusal().message
    bare = emulated_aws.name()
    client = aws.client("dynamodb", REGION, Meter())
    client.create_table(
        TableName=bare,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("p", "n")],
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
    )
    rig.session.table = table_of(bare)[0]  # type: ignore[misc]
    error = rig.refusal()
    assert bare in error.message and "index" in error.message and "kubeq setup" in str(error.hint)


def test_a_table_of_another_region_does_not_exist_here(rig: Rig, emulated_aws: Cloud) -> None:
    name = made_table(emulated_aws)
    rig.session.table = table_of(name, "us-west-2")[0]  # type: ignore[misc]
    error = rig.refusal()
    assert f"the table {name} in us-west-2 does not exist" in error.message
    assert "region" in str(error.hint)


def test_a_bucket_that_is_not_there_is_told(rig: Rig, emulated_aws: Cloud) -> None:
    lost = Bucket(emulated_aws.name(), REGION)
    rig.session.store = S3Store(lost, PREFIX, patience=impatient())  # type: ignore[misc]
    error = rig.refusal()
    assert isinstance(error, BackendError) and f"{lost.name} does not exist" in error.message


def test_without_credentials_it_is_said_where_they_may_come_from(
    rig: Rig, emulated_aws: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(aws, "_session", None)
    rig.session.table = DynamoDbTable(REGION, "kubeq")  # type: ignore[misc]
    error = rig.refusal()
    assert "there are no AWS credentials" in error.message and "aws configure" in str(error.hint)
