"""The RecordTable in a DynamoDB table: for agents anywhere.

On-demand billing; one table, one sparse index. How rows lie there is in `dynamodb_items`, how requests are sent and
sent again in `dynamodb_calls`, who makes the table in `dynamodb_setup`. Requests and capacity units of each call (a
write unit carries 1 KB; a read unit 4 KB, consistently, or 8 KB):

insert  a PutItem a row: 1 write unit, 1 more in the index if it has a `claimable_at`
swap    a PutItem a row: 1 write unit; in the index 2 if the time changed, 1 if it only came, went or stayed
get     a BatchGetItem for 100 rows: 1 read unit a row
due     a Query of the index a shard, of what it reads; half a read unit where there is nothing
list    a consistent Query a shard
count   Queries over every row, of 1 MB each; half the read units unless `consistent`
delete  a DeleteItem a row: 1 write unit, 1 more in the index

A shard: 8 for the tasks of a job, 1 for anything else. So an idle poll costs half a read unit, and 4 more an open job.
A condition that fails costs its write units all the same. Never BatchWriteItem, which takes no condition: a late one
would put a claimed task back to pending. Nothing is ever read from the index and believed: it lags.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from kubeq import aws
from kubeq.core.model import Reach
from kubeq.errors import BackendError
from kubeq.metering import Meter
from kubeq.queue.base import Change, Cursor, Key, Page, Partition, Row, Standing, Swapped, Tally
from kubeq.queue.dynamodb_calls import PARALLEL, READ_S, Calls
from kubeq.queue.dynamodb_items import (
    FIRST_DUE,
    INDEX,
    SHARDS,
    after_all_due,
    due_text,
    hash_keys,
    item_key,
    item_of,
    row_of,
)
from kubeq.queue.dynamodb_queries import items, page
from kubeq.queue.patience import PATIENCE_S

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import KeysAndAttributesUnionTypeDef, QueryInputTypeDef

    from kubeq.queue.dynamodb_items import Item

GET_BATCH = 100
"""The most keys that BatchGetItem takes ("Quotas in Amazon DynamoDB")."""
NEW = "attribute_not_exists(p)"
UNCHANGED = "v = :v"


class DynamoDbTable:
    """The rows of one DynamoDB table. Each row of a call is a change of its own; a call may be cut short by an error,
    and repeated: what it has done already is recognised by its `change_id`."""

    reach: ClassVar[Reach] = Reach.NETWORK
    batch: ClassVar[int] = 1_000
    """A second or two of work for one process; a listing of so many tasks is some 300 KB."""

    def __init__(
        self,
        region: str,
        name: str,
        *,
        shards: int = SHARDS,
        patience_s: float = PATIENCE_S,
        connect: Callable[[Meter], DynamoDBClient] | None = None,
    ) -> None:
        """`connect` makes the client when it is first needed; `shards` other than the default is for tests."""
        self._name = name
        self._shards = shards
        self._calls = Calls(f"the table {name} in {region}", connect or _connecting(region), patience_s)

    @property
    def requests(self) -> Mapping[str, int]:
        """HTTP requests by operation: `PutItem`, `Query` and so on."""
        return self._calls.meter.read()

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        """Conditional puts side by side. What DynamoDB could not take of any row is said before the first is sent."""
        made = [item_of(row, self._shards) for row in rows]
        standing = self._calls.each(self._create, made)
        return [
            None if there is None or there.change_id == row.change_id else there
            for row, there in zip(rows, standing, strict=True)
        ]

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Each row as of some moment of the call; a key given twice is asked once."""
        distinct = list(dict.fromkeys(keys))
        chunks = [distinct[start : start + GET_BATCH] for start in range(0, len(distinct), GET_BATCH)]
        found = {row.key: row for row in chain.from_iterable(self._calls.each(self._get, chunks))}
        return [found.get(key) for key in keys]

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        """Conditional puts side by side; a loser is told the standing row by the very answer."""
        rows = [Row(each.key, each.version + 1, *each[2:]) for each in changes]
        pairs = [(row, item_of(row, self._shards)) for row in rows]
        return self._calls.each(lambda pair: self._replace(*pair), pairs)

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        """From the index, which lags behind the table by some milliseconds, seldom by seconds."""
        first = FIRST_DUE if after is None else due_text(after.claimable_at or 0.0, after.name) + "\0"
        last = after_all_due(before)
        if first > last:
            return Page([], None)
        query: QueryInputTypeDef = {
            "TableName": self._name,
            "IndexName": INDEX,
            "KeyConditionExpression": "p = :p AND d BETWEEN :first AND :last",
            "ExpressionAttributeValues": {":first": {"S": first}, ":last": {"S": last}},
        }
        return page(self._calls, query, hash_keys(partition, self._shards), limit, "d")

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        """The shards' rows merged; each request sees all that was written before it."""
        query: QueryInputTypeDef = {
            "TableName": self._name,
            "ConsistentRead": True,
            "KeyConditionExpression": "p = :p" if after is None else "p = :p AND n > :after",
            "ExpressionAttributeValues": {} if after is None else {":after": {"S": after.name}},
        }
        return page(self._calls, query, hash_keys(partition, self._shards), limit, "n")

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        """Reads every row of the partition, and sends its tally only. Each row counts as of some moment of the call."""
        query: QueryInputTypeDef = {
            "TableName": self._name,
            "ConsistentRead": consistent,
            "KeyConditionExpression": "p = :p",
            "ProjectionExpression": "t",
            "ExpressionAttributeValues": {},
        }

        def count_shard(hash_key: str) -> Counter[Tally]:
            return Counter(Tally(item["t"]["S"]) for item in items(self._calls, query, hash_key) if "t" in item)

        counts = self._calls.each(count_shard, hash_keys(partition, self._shards))
        return dict(sum(counts, Counter()))

    def delete(self, keys: Sequence[Key]) -> None:
        """Deletes side by side."""

        def delete_one(key: Key) -> None:
            named = item_key(key, self._shards)
            self._calls.ask(lambda client: client.delete_item(TableName=self._name, Key=named))

        self._calls.each(delete_one, list(keys))

    def clock_offset(self) -> float:
        """From the dates of its answers; 0 before the first."""
        return self._calls.offset.seconds()

    def wait(self, seconds: float) -> None:
        """Simply sleeps: DynamoDB tells nobody of changes without being asked."""
        time.sleep(seconds)

    def _create(self, item: Item) -> Row | None:
        """None if it was made, else the row that stands there."""
        done, standing = self._put({"Item": item, "ConditionExpression": NEW})
        if not done and standing is None:
            raise BackendError("DynamoDB refused a new row and did not say which one stands there", transient=True)
        return standing

    def _replace(self, row: Row, item: Item) -> Swapped | Standing:
        """What becomes of a change that would make that row: a lost answer is not a "no"."""
        values: Item = {":v": {"N": str(row.version - 1)}}
        done, standing = self._put(
            {"Item": item, "ConditionExpression": UNCHANGED, "ExpressionAttributeValues": values}
        )
        if done:
            return Swapped(row)
        if standing is not None and (standing.version, standing.change_id) == (row.version, row.change_id):
            return Swapped(standing)
        return Standing(standing)

    def _put(self, given: dict[str, Any]) -> tuple[bool, Row | None]:
        """Whether the put was made, and if not, the row that was in its way."""

        def request(client: DynamoDBClient) -> Mapping[str, Any]:
            try:
                return client.put_item(TableName=self._name, ReturnValuesOnConditionCheckFailure="ALL_OLD", **given)
            except client.exceptions.ConditionalCheckFailedException as refused:
                return refused.response

        answer = self._calls.ask(request)
        return "Error" not in answer, row_of(answer["Item"]) if "Item" in answer else None

    def _get(self, keys: Sequence[Key]) -> Sequence[Row]:
        """Those of up to 100 distinct keys that exist."""
        rows: list[Row] = []
        left: KeysAndAttributesUnionTypeDef = {
            "Keys": [item_key(key, self._shards) for key in keys],
            "ConsistentRead": True,
        }

        def request(client: DynamoDBClient) -> Mapping[str, Any]:
            nonlocal left
            answer = client.batch_get_item(RequestItems={self._name: left})
            rows.extend(map(row_of, answer["Responses"].get(self._name, [])))
            if rest := answer.get("UnprocessedKeys", {}).get(self._name):
                left = rest
                raise BackendError(f"the table {self._name} gave some of the rows only", transient=True)
            return answer

        self._calls.ask(request)
        return rows


def _connecting(region: str) -> Callable[[Meter], DynamoDBClient]:
    return lambda meter: aws.client("dynamodb", region, meter, parallel=PARALLEL, read_s=READ_S)
