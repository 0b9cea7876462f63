"""What AWS would bill for the requests of a DynamoDB client, by its documented rules, from what is sent and answered.

Stand-ins do not reckon it. An item counts for its attributes' names and values ("Amazon DynamoDB item sizes and
formats"). A write unit carries 1 KB of the larger of the old and the new item; the index takes one for an entry that
comes, goes or stays, and two for one that moves. A condition that fails is paid for all the same. A read unit carries
4 KB consistently, or 8 KB: of each item by itself for BatchGetItem, of all that a page walked over for Query ("Read and
write operations", "Global secondary indexes in DynamoDB"; both of the developer guide).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from kubeq import aws
from kubeq.queue.dynamodb_calls import PARALLEL
from tests.stand_ins.ministack import REGION

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from kubeq.metering import Meter

Item = Mapping[str, Mapping[str, str]]
WRITE_BYTES, READ_BYTES = 1024, 4096
_NUMBER_BYTES = 2
"""A number of up to two significant digits, with its overhead."""


class Units:
    """Counts `write` and `read` units of the clients that it makes, which share what is known of the items."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[tuple[str, str], Item] = {}
        self.billed: Counter[str] = Counter()

    def connect(self, meter: Meter) -> DynamoDBClient:
        """A client whose requests are reckoned; for `DynamoDbTable`."""
        client = aws.client("dynamodb", REGION, meter, parallel=PARALLEL)
        client.meta.events.register("before-parameter-build.dynamodb", self._sent)
        client.meta.events.register("after-call.dynamodb", self._answered)
        return client

    def _sent(self, params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        context["sent"] = params

    def _answered(self, model: Any, parsed: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        sent = context["sent"]
        with self._lock:
            match model.name:
                case "PutItem":
                    self._write(_key(sent["Item"]), sent["Item"], made="Error" not in parsed)
                case "DeleteItem":
                    self._write(_key(sent["Key"]), None, made=True)
                case "BatchGetItem":
                    ((_, wanted),) = sent["RequestItems"].items()
                    sizes = [_size(self._items.get(_key(key), {})) for key in wanted["Keys"]]
                    self.billed["read"] += sum(max(1, ceil(size / READ_BYTES)) for size in sizes)
                case "Query":
                    walked = sum(_size(self._items[_key(item)]) for item in _whole(self._items, sent, parsed))
                    units = max(1, ceil(walked / READ_BYTES))
                    self.billed["read"] += units if sent.get("ConsistentRead") else units / 2
                case other:
                    raise AssertionError(f"nobody knows what {other} costs")

    def _write(self, key: tuple[str, str], item: Item | None, *, made: bool) -> None:
        old = self._items.get(key, {})
        size = max(_size(old), _size(item or {}) if made else 0)
        self.billed["write"] += max(1, ceil(size / WRITE_BYTES))
        if not made:
            return
        entries = [each["d"]["S"] for each in (old, item or {}) if "d" in each]
        moved = len(entries) == 2 and entries[0] != entries[1]
        if entries:
            self.billed["write"] += (2 if moved else 1) * max(1, ceil(size / WRITE_BYTES))
        if item is None:
            self._items.pop(key, None)
        else:
            self._items[key] = item


def _whole(items: Mapping[tuple[str, str], Item], sent: Mapping[str, Any], parsed: Mapping[str, Any]) -> list[Item]:
    """The items that a query walked over: those of its answer, or all of the hash key if it has only parts of them."""
    if "ProjectionExpression" not in sent:
        return list(parsed["Items"])
    assert "LastEvaluatedKey" not in parsed, "of a page with parts of items it is not known which ones it walked over"
    asked_for = sent["ExpressionAttributeValues"][":p"]["S"]
    return [item for (hash_key, _), item in items.items() if hash_key == asked_for]


def _key(item: Item) -> tuple[str, str]:
    return item["p"]["S"], item["n"]["S"]


def _size(item: Item) -> int:
    return sum(
        len(name) + (len(value["S"].encode()) if "S" in value else _NUMBER_BYTES) for name, value in item.items()
    )
