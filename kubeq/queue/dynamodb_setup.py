"""Making the DynamoDB table of a queue, and saying what a node may do with it: the Provisioner behind `dynamodb:`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from kubeq import aws
from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import BackendError
from kubeq.metering import Meter
from kubeq.queue.dynamodb_calls import Calls
from kubeq.queue.dynamodb_items import INDEX
from kubeq.queue.patience import PATIENCE_S

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeDefinitionTypeDef, KeySchemaElementTypeDef

TABLE_KEY: Sequence[KeySchemaElementTypeDef] = (
    {"AttributeName": "p", "KeyType": "HASH"},
    {"AttributeName": "n", "KeyType": "RANGE"},
)
INDEX_KEY: Sequence[KeySchemaElementTypeDef] = (
    {"AttributeName": "p", "KeyType": "HASH"},
    {"AttributeName": "d", "KeyType": "RANGE"},
)
ATTRIBUTES: Sequence[AttributeDefinitionTypeDef] = tuple(
    {"AttributeName": name, "AttributeType": "S"} for name in ("p", "n", "d")
)
WAIT_S = 900.0
"""A table is there within seconds; an index added to a table with rows is filled first."""
LOOK_EVERY_S = 1.0


class DynamoDbSetup:
    """Makes one table with its index, billed by the request."""

    cloud: ClassVar[str] = "aws"

    def __init__(
        self,
        region: str,
        name: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        connect: Callable[[Meter], DynamoDBClient] | None = None,
    ) -> None:
        self._region = region
        self._name = name
        self._thing = f"the table {name} in {region}"
        self._sleep = sleep
        self._arn: str | None = None
        self._calls = Calls(
            self._thing, connect or (lambda meter: aws.client("dynamodb", region, meter)), patience_s=PATIENCE_S
        )

    @property
    def requests(self) -> Mapping[str, int]:
        """See Provisioner."""
        return self._calls.meter.read()

    def survey(self) -> Sequence[Piece]:
        """The table and its index. Raises BackendError for a table of that name that is not a queue's."""
        table = self._describe()
        return [
            Piece(
                kind="table",
                name=self._name,
                stands=table is not None and table["TableStatus"] in ("ACTIVE", "UPDATING"),
                about=f"DynamoDB in {self._region}, billed by the request",
            ),
            Piece(
                kind="index",
                name=f"{self._name}/{INDEX}",
                stands=(_index_of(table) or {}).get("IndexStatus") == "ACTIVE",
                about="of the tasks that may be claimed, billed by the request",
            ),
        ]

    def create(self, piece: Piece) -> None:
        """The table is made with its index; the index alone only where a table lacks it."""
        index = {"IndexName": INDEX, "KeySchema": INDEX_KEY, "Projection": {"ProjectionType": "ALL"}}
        table = self._describe()
        if table is None:
            self._send(
                lambda client: client.create_table(
                    TableName=self._name,
                    KeySchema=TABLE_KEY,
                    AttributeDefinitions=ATTRIBUTES,
                    GlobalSecondaryIndexes=[index],  # type: ignore[list-item]
                    BillingMode="PAY_PER_REQUEST",
                )
            )
        elif piece.kind == "index" and _index_of(table) is None:
            self._send(
                lambda client: client.update_table(
                    TableName=self._name,
                    AttributeDefinitions=ATTRIBUTES,
                    GlobalSecondaryIndexUpdates=[{"Create": index}],  # type: ignore[typeddict-item]
                )
            )
        self._await(piece)

    def node_permissions(self) -> Sequence[Permission]:
        """To read rows and to put them; neither to scan, to delete nor to make anything. The account is in the names
        once `survey` or `create` has seen the table."""
        arn = self._arn or f"arn:{aws.partition_of(self._region)}:dynamodb:{self._region}:*:table/{self._name}"
        return [
            Permission(actions=("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query"), resources=(arn,)),
            Permission(actions=("dynamodb:Query",), resources=(f"{arn}/index/{INDEX}",)),
        ]

    def _describe(self) -> Mapping[str, Any] | None:
        """The table as DynamoDB describes it, None if there is none. Raises BackendError for one of another layout."""

        def request(client: DynamoDBClient) -> Mapping[str, Any]:
            try:
                return client.describe_table(TableName=self._name)
            except client.exceptions.ResourceNotFoundException as missing:
                return missing.response

        table: Mapping[str, Any] | None = self._calls.ask(request).get("Table")
        if table is None:
            return None
        index = _index_of(table)
        if not _same(table["KeySchema"], TABLE_KEY) or (index and not _same(index["KeySchema"], INDEX_KEY)):
            raise BackendError(
                f"{self._thing} is not the table of a queue: its key is another",
                hint="name another one in queue_url: dynamodb://REGION/TABLE",
            )
        self._arn = table["TableArn"]
        return table

    def _send(self, request: Callable[[DynamoDBClient], Mapping[str, Any]]) -> None:
        """Make it, if nobody else is just making it."""

        def unless_under_way(client: DynamoDBClient) -> Mapping[str, Any]:
            try:
                return request(client)
            except client.exceptions.ResourceInUseException as under_way:
                return under_way.response

        self._calls.ask(unless_under_way)

    def _await(self, piece: Piece) -> None:
        """Return when it can be used."""
        for _ in range(int(WAIT_S / LOOK_EVERY_S)):
            if any(found.stands for found in self.survey() if found.kind == piece.kind):
                return
            self._sleep(LOOK_EVERY_S)
        raise BackendError(
            f"{self._thing} was not ready after {WAIT_S / 60:.0f} minutes", hint="kubeq setup goes on with it"
        )


def _index_of(table: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Our index in a description, if it has it."""
    indexes: Sequence[Mapping[str, Any]] = (table or {}).get("GlobalSecondaryIndexes", ())
    return next((index for index in indexes if index["IndexName"] == INDEX), None)


def _same(found: Sequence[Mapping[str, Any]], wanted: Sequence[KeySchemaElementTypeDef]) -> bool:
    return {(part["AttributeName"], part["KeyType"]) for part in found} == {
        (part["AttributeName"], part["KeyType"]) for part in wanted
    }
