"""How rows lie in Datastore: their keys, what of them is indexed, and what does not fit. Makes no request.

Every row is one entity of the kind `KubeqRow` in the URL's namespace:

key      "SHARD.PARTITION.NAME"
due      "SHARD.PARTITION.TIME.NAME"   indexed, if the row has a `claimable_at`
tally    "PARTITION.TALLY"             indexed, if the row is counted
version, change_id, body              not indexed

Datastore slows down where many writes hit one narrow range of keys or of an index, 500 a second being its own rule of
thumb (https://cloud.google.com/datastore/docs/best-practices). Task rows have consecutive names and times that only
grow, the worst case; so a digit that is a hash of the name stands before everything else and makes eight ranges of one.
The partition before the time does the same for several jobs. A plain indexed time would be one range for all of them.
Names and partitions are escaped so that their byte order stays and only characters that a key may have remain.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from google.cloud.datastore_v1.types import datastore as messages
from google.cloud.datastore_v1.types import entity as entities

from kubeq.errors import BackendError
from kubeq.queue.base import LARGE, Change, Key, Partition, Row, Tally

Message = Any
"""A protobuf message of the client library without its wrapping, which is slow. Untyped: made at run time."""
KIND = "KubeqRow"
SHARDS = 8
"""Of a large partition: 4,000 writes a second by the rule above, for 8 small queries per `due`."""
TEXT_BYTES = 1_500
"""A key's name, and an indexed text: https://cloud.google.com/datastore/docs/concepts/limits (May 2026)."""
ENTITY_BYTES = 1_048_000
"""The largest entity is 1,048,572 bytes (same page); the rest is for what the service counts otherwise than we do."""

_Entity, _Mutation = entities.Entity.pb(), messages.Mutation.pb()
_FAIL = messages.Mutation.ConflictResolutionStrategy.FAIL
_KEPT = range(ord("0"), ord("~"))
_ESCAPES = {byte: f"{'!' if byte < _KEPT[0] else '~'}{byte:02x}" for byte in range(256) if byte not in _KEPT}


class Place(NamedTuple):
    """Where a table's entities are: the database ("" is the one named `(default)`) and the namespace in it."""

    project: str
    namespace: str
    database: str


def name_of(key: Key) -> str:
    """The key name of a row."""
    return f"{shard_of(key)}.{escaped(key.partition)}.{escaped(key.name)}"


def entity_of(row: Row, place: Place) -> Message:
    """The row as it is stored. Raises BackendError for one too large, UnicodeEncodeError for what is no Unicode."""
    entity = _Entity()
    point(entity.key, place, name_of(row.key))
    properties = entity.properties
    properties["version"].integer_value = row.version
    properties["change_id"].string_value = row.change_id
    properties["body"].string_value = row.body
    for unindexed in ("version", "change_id", "body"):
        properties[unindexed].exclude_from_indexes = True
    if row.claimable_at is not None:
        partition, name = escaped(row.key.partition), escaped(row.key.name)
        properties["due"].string_value = f"{shard_of(row.key)}.{partition}.{sortable(row.claimable_at)}.{name}"
    if row.tally is not None:
        properties["tally"].string_value = f"{escaped(row.key.partition)}.{escaped(row.tally)}"
    _require_storable(row.key, entity)
    return entity


def row_of(entity: Message) -> Row:
    """The row of an entity."""
    _, partition, name = entity.key.path[0].name.split(".")
    properties, due, tally = entity.properties, text_of(entity, "due"), text_of(entity, "tally")
    return Row(
        Key(Partition(plain(partition)), plain(name)),
        properties["version"].integer_value,
        properties["change_id"].string_value,
        Tally(plain(tally.partition(".")[2])) if tally else None,
        time_of(due.split(".")[2]) if due else None,
        properties["body"].string_value,
    )


def text_of(entity: Message, property_name: str) -> str:
    """What a property says, "" where the entity has none of that name (to ask for it would make it)."""
    return str(entity.properties[property_name].string_value) if property_name in entity.properties else ""


def changed(change: Change) -> Row:
    """The row that a change makes."""
    return Row(change.key, change.version + 1, *change[2:])


def insertion(entity: Message) -> Message:
    """Create the entity, or fail the commit."""
    return _Mutation(insert=entity)


def replacement(entity: Message, standing: int) -> Message:
    """Put the entity in the place of the one that has this server's version, or fail the commit.

    To fail is not what the service does by itself: without it a conflict is only a mark in a successful answer, and
    Google's newer emulator overwrites without even that.
    """
    return _Mutation(update=entity, base_version=standing, conflict_resolution_strategy=_FAIL)


def removal(name: str, place: Place) -> Message:
    """Delete the entity, if there is one."""
    mutation = _Mutation()
    point(mutation.delete, place, name)
    return mutation


def keys_of(names: Sequence[str], place: Place) -> Sequence[Message]:
    """Keys as a Lookup takes them."""
    request = messages.LookupRequest.pb()()
    for name in names:
        point(request.keys.add(), place, name)
    return request.keys  # type: ignore[no-any-return]


def escaped(text: str) -> str:
    """Characters from 0 to } as they are, other bytes as ! or ~ and two digits; in the same order. No dot is left."""
    return text.encode().decode("latin-1").translate(_ESCAPES)


def plain(text: str) -> str:
    """What was escaped."""
    return re.sub("[!~](..)", lambda escape: chr(int(escape[1], 16)), text).encode("latin-1").decode()


def sortable(time: float) -> str:
    """16 digits that sort as the times do, and hold them exactly."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", time))
    return f"{bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63):016x}"


def time_of(digits: str) -> float:
    """What was made sortable."""
    bits = int(digits, 16)
    (time,) = struct.unpack(">d", struct.pack(">Q", bits ^ (1 << 63 if bits >> 63 else 0xFFFF_FFFF_FFFF_FFFF)))
    return float(time)


def shard_of(key: Key) -> int:
    """The digit that spreads the rows of a partition."""
    return zlib.crc32(key.name.encode()) % SHARDS if key.partition.startswith(LARGE) else 0


def prefixes(partition: Partition) -> Sequence[str]:
    """What the keys of a partition begin with, shard by shard."""
    return [f"{shard}.{escaped(partition)}." for shard in range(SHARDS if partition.startswith(LARGE) else 1)]


def point(key: Message, place: Place, name: str) -> None:
    """Make an empty key the one of that name."""
    key.partition_id.project_id, key.partition_id.namespace_id, key.partition_id.database_id = place
    key.path.add(kind=KIND, name=name)


def _require_storable(key: Key, entity: Message) -> None:
    longest = max(len(entity.key.path[0].name), len(text_of(entity, "due")), len(text_of(entity, "tally")))
    row = f"the row {key.name!r} of {key.partition!r}"
    if longest > TEXT_BYTES:
        raise BackendError(
            f"{row} cannot be written: its name or tally takes {longest} bytes of at most {TEXT_BYTES} in Datastore",
            hint="use a shorter name",
        )
    if entity.ByteSize() > ENTITY_BYTES:
        raise BackendError(
            f"{row} cannot be written: it takes {entity.ByteSize():,} bytes of at most {ENTITY_BYTES:,} in Datastore",
            hint="shorten the command and its parameters; put large values in a file and give it as an input",
        )
