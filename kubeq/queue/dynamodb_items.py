"""How rows lie in a DynamoDB table: attributes, shards, and texts that sort as what they stand for. Makes no request.

p   hash key of the table and of its index: the partition and a shard, `job/20260101-abc#5`
n   range key of the table: the row's name
v   the version, a number
c   the mark of the write that made it
t   the tally; absent where there is none
d   range key of the index: `claimable_at` and then the name; absent where there is no such time, which keeps the row
    out of the index
b   the body

A large partition is spread over `SHARDS` hash keys by a hash of the name, because DynamoDB takes 1,000 writes and 3,000
reads a second of one (docs/decisions/0016). DynamoDB compares texts by the bytes of their UTF-8, as kubeq does.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zlib import crc32

from kubeq.errors import BackendError
from kubeq.queue.base import LARGE, Key, Partition, Row, Tally

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    Item = dict[str, AttributeValueTypeDef]

INDEX = "due"
SHARDS = 8
"""Of a large partition. Part of the layout: everybody who uses a table must have the same."""
ITEM_BYTES = 400 * 1024
"""DynamoDB's limit for an item with the names of its attributes ("Quotas in Amazon DynamoDB": 400 KB)."""
NAME_BYTES = 1024 - 16
"""DynamoDB's limit for a range key is 1,024 bytes; that of the index has the time before the name."""
HASH_BYTES = 2048
"""The same for a hash key."""
FIRST_DUE = "0"
"""Sorts before every `d`."""
_NUMBER_BYTES = 21
"""The largest that DynamoDB ever counts a number for."""


def item_of(row: Row, shards: int) -> Item:
    """The item of a row. Raises BackendError for one that DynamoDB would refuse, UnicodeEncodeError for no text."""
    key, version, change_id, tally, claimable_at, body = row
    texts = {"p": hash_key(key, shards), "n": key.name, "c": change_id, "b": body}
    if tally is not None:
        texts["t"] = tally
    if claimable_at is not None:
        texts["d"] = due_text(claimable_at, key.name)
    sizes = {attribute: len(text.encode()) for attribute, text in texts.items()}
    _require_room(key, sizes)
    item: Item = {attribute: {"S": text} for attribute, text in texts.items()}
    item["v"] = {"N": str(version)}
    return item


def row_of(item: Mapping[str, Any]) -> Row:
    """The row of an item with all its attributes."""
    return Row(
        Key(Partition(item["p"]["S"].rpartition("#")[0]), item["n"]["S"]),
        int(item["v"]["N"]),
        item["c"]["S"],
        Tally(item["t"]["S"]) if "t" in item else None,
        _time_of(item["d"]["S"]) if "d" in item else None,
        item["b"]["S"],
    )


def item_key(key: Key, shards: int) -> Item:
    """What DynamoDB finds the row by."""
    return {"p": {"S": hash_key(key, shards)}, "n": {"S": key.name}}


def hash_key(key: Key, shards: int) -> str:
    """The hash key that the row lies under."""
    shard = crc32(key.name.encode()) % shards if key.partition.startswith(LARGE) else 0
    return f"{key.partition}#{shard}"


def hash_keys(partition: Partition, shards: int) -> list[str]:
    """All hash keys that rows of the partition may lie under."""
    return [f"{partition}#{shard}" for shard in range(shards if partition.startswith(LARGE) else 1)]


def due_text(at: float, name: str) -> str:
    """Sorts by time, then by name; the time comes back exactly as it was."""
    return _sortable(at) + name


def after_all_due(before: float) -> str:
    """Sorts after the `d` of every row whose time is `before` or earlier, and before that of any later one."""
    return "g" if before == math.inf else _sortable(math.nextafter(before, math.inf))


def _sortable(at: float) -> str:
    """The number's 64 bits as hexadecimal digits, turned so that they sort as the numbers do."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", at + 0.0))  # 0.0 added: -0.0 is 0.0
    return f"{bits ^ (2**64 - 1 if bits >> 63 else 2**63):016x}"


def _time_of(text: str) -> float:
    bits = int(text[:16], 16)
    (at,) = struct.unpack(">d", struct.pack(">Q", bits ^ (2**63 if bits >> 63 else 2**64 - 1)))
    return float(at)


def _require_room(key: Key, sizes: Mapping[str, int]) -> None:
    thing = f"the row {key.name!r} of {key.partition}"
    if not 0 < sizes["n"] <= NAME_BYTES or sizes["p"] > HASH_BYTES:
        raise BackendError(f"{thing} cannot be stored: DynamoDB takes names of 1 to {NAME_BYTES} bytes")
    size = sum(sizes.values()) + len(sizes) + len("v") + _NUMBER_BYTES
    if size > ITEM_BYTES:
        raise BackendError(
            f"{thing} cannot be stored: it has {size:,} bytes, and DynamoDB takes {ITEM_BYTES:,} at most",
            hint="put long parameter values into a file and give the task the file with -u",
        )
