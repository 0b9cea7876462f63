"""Making the table: only what is missing, whoever else makes it; and the least that a node may do with it."""

from __future__ import annotations

import json

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.httpsession import URLLib3Session

from kubeq import aws
from kubeq.core.provisioning import Piece
from kubeq.errors import AccessDenied, BackendError
from kubeq.metering import Meter
from kubeq.queue.dynamodb_setup import DynamoDbSetup
from tests.stand_ins.ministack import REGION, Cloud
from tests.stand_ins.wire import Wire, answer, lose_the_answer


class Rig:
    """A setup for a table that does not exist yet, and the line that it uses."""

    def __init__(self, cloud: Cloud) -> None:
        self.name = cloud.name()
        self.client = aws.client("dynamodb", REGION, Meter())
        self.wire = Wire(self.client)
        self.slept: list[float] = []
        self.setup = DynamoDbSetup(REGION, self.name, sleep=self.slept.append, connect=lambda meter: self.client)

    def stands(self) -> list[bool]:
        return [piece.stands for piece in self.setup.survey()]

    def table_with(self, *attributes: str) -> None:
        """A table of that name with these key attributes and no index."""
        kinds = ("HASH", "RANGE")
        self.client.create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in zip(attributes, kinds, strict=False)],  # type: ignore[typeddict-item]
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in attributes],
            BillingMode="PAY_PER_REQUEST",
        )


@pytest.fixture
def rig(emulated_aws: Cloud) -> Rig:
    return Rig(emulated_aws)


def test_the_table_is_surveyed_made_and_surveyed_again(rig: Rig) -> None:
    table, index = rig.setup.survey()
    assert (table.kind, table.name, table.stands) == ("table", rig.name, False)
    assert (index.kind, index.name, index.stands) == ("index", f"{rig.name}/due", False)
    rig.setup.create(table)
    assert rig.stands() == [True, True]
    made = rig.client.describe_table(TableName=rig.name)["Table"]
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert made["GlobalSecondaryIndexes"][0]["Projection"]["ProjectionType"] == "ALL"


def test_making_what_stands_asks_and_makes_nothing(rig: Rig) -> None:
    for piece in rig.setup.survey():
        rig.setup.create(piece)
    before = rig.wire.counts()
    for piece in rig.setup.survey():
        rig.setup.create(piece)
    assert rig.wire.counts()["CreateTable"] == before["CreateTable"] == 1
    assert "UpdateTable" not in rig.wire.counts()


def test_an_index_that_is_missing_is_added(rig: Rig) -> None:
    rig.table_with("p", "n")
    assert rig.stands() == [True, False]
    for piece in rig.setup.survey():
        rig.setup.create(piece)
    assert rig.stands() == [True, True]


def test_a_table_that_somebody_else_makes_meanwhile_is_waited_for(rig: Rig) -> None:
    def be_beaten(request: AWSPreparedRequest) -> None:
        URLLib3Session().send(request)

    rig.wire.next("CreateTable", be_beaten)
    rig.setup.create(rig.setup.survey()[0])
    assert rig.wire.counts()["CreateTable"] == 1
    assert rig.stands() == [True, True]


def test_a_create_whose_answer_is_lost_has_made_the_table(rig: Rig) -> None:
    rig.wire.next("CreateTable", lose_the_answer)
    rig.setup.create(rig.setup.survey()[0])
    assert rig.wire.counts()["CreateTable"] == 2
    assert rig.stands() == [True, True]


def test_it_is_waited_for_until_it_can_be_used_and_not_for_ever(rig: Rig) -> None:
    table = rig.setup.survey()[0]
    being_made = json.dumps({"Table": description(rig.name, "CREATING")}).encode()
    rig.table_with("p", "n")
    rig.wire.next("DescribeTable", *[answer(200, being_made)] * 5)
    rig.setup.create(table)
    assert len(rig.slept) == 4
    rig.wire.always("DescribeTable", answer(200, being_made))
    with pytest.raises(BackendError, match="was not ready after 15 minutes") as raised:
        rig.setup.create(table)
    assert "kubeq setup" in (raised.value.hint or "")


def description(name: str, status: str) -> dict[str, object]:
    """A table that is being made, as DynamoDB describes it."""
    keys = [{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}]
    arn = f"arn:aws:dynamodb:{REGION}:000000000000:table/{name}"
    return {"TableName": name, "TableStatus": status, "KeySchema": keys, "TableArn": arn}


@pytest.mark.parametrize("attributes", [("id",), ("p", "s"), ("n", "p")])
def test_a_table_of_another_layout_is_left_alone_and_told_of(rig: Rig, attributes: tuple[str, ...]) -> None:
    rig.table_with(*attributes)
    uses = [rig.setup.survey, lambda: rig.setup.create(Piece(kind="table", name=rig.name, stands=False, about=""))]
    for use in uses:
        with pytest.raises(BackendError, match="is not the table of a queue: its key is another") as raised:
            use()
        assert "queue_url" in (raised.value.hint or "")


def test_whoever_may_not_make_it_is_told_the_permission(rig: Rig) -> None:
    body = json.dumps({"__type": "x#AccessDeniedException", "message": "not you"}).encode()
    rig.wire.next("CreateTable", answer(400, body))
    table = rig.setup.survey()[0]
    with pytest.raises(AccessDenied, match="AWS does not permit dynamodb:CreateTable: not you"):
        rig.setup.create(table)


def test_a_node_may_read_and_put_rows_of_this_table_and_nothing_else(rig: Rig) -> None:
    for piece in rig.setup.survey():
        rig.setup.create(piece)
    table, index = rig.setup.node_permissions()
    arn = f"arn:aws:dynamodb:{REGION}:000000000000:table/{rig.name}"
    assert (table.actions, table.resources) == (
        ("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query"),
        (arn,),
    )
    assert (index.actions, index.resources) == (("dynamodb:Query",), (f"{arn}/index/due",))


@pytest.mark.parametrize(
    ("region", "prefix"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_before_the_table_is_seen_the_account_is_any_and_no_request_is_made(region: str, prefix: str) -> None:
    def connect(meter: Meter) -> None:
        raise AssertionError("it made a request")

    setup = DynamoDbSetup(region, "kubeq", connect=connect)  # type: ignore[arg-type]
    assert setup.node_permissions()[0].resources == (f"arn:{prefix}:dynamodb:{region}:*:table/kubeq",)
