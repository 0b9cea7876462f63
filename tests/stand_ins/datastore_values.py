"""Keys and values as Datastore orders and measures them, and what it refuses to store. For the emulator only.

Messages are the client library's own protobuf messages, without the wrapping that the library puts round them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import grpc
from google.cloud.datastore_v1.types import entity as entities

Message = Any
"""A protobuf message: its class is made at run time, so no type checker knows it."""
Order = tuple[int, Any]
"""A value as it sorts: values of different types by the type, then by the value."""
Path = tuple[tuple[str, int, "int | str"], ...]
"""A key's path as it sorts: kind, then 0 and the number or 1 and the name; numbers come before names."""

ENTITY_BYTES = 1_048_572
"""The largest entity: https://cloud.google.com/datastore/docs/concepts/limits (May 2026), as are the next three."""
UNINDEXED_BYTES = 1_048_487
INDEXED_BYTES = 1_500
KEY_BYTES = 6 * 1024
NAME_BYTES = 1_500
"""A kind's or a key's name; what Google's emulators refuse beyond."""
KEY = "__key__"

Entity = entities.Entity.pb()
Key = entities.Key.pb()
Value = entities.Value.pb()
_RESERVED = re.compile(r"__.*__", re.DOTALL)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def unimplemented(what: str) -> Refused:
    return Refused(grpc.StatusCode.UNIMPLEMENTED, f"this stand-in knows no {what}")


class Scope(NamedTuple):
    """Where entities live: queries and indexes never reach beyond one."""

    project: str
    database: str
    namespace: str


class Place(NamedTuple):
    """A complete key, as a dictionary's key."""

    scope: Scope
    path: Path

    @property
    def kind(self) -> str:
        return self.path[-1][0]


def scope_of(partition: Message, request: Message) -> Scope:
    return Scope(
        partition.project_id or request.project_id,
        partition.database_id or request.database_id,
        partition.namespace_id,
    )


def place_of(key: Message, request: Message) -> Place:
    """Where a key points. Refuses incomplete keys."""
    path: list[tuple[str, int, int | str]] = []
    for part in key.path:
        match part.WhichOneof("id_type"):
            case "id":
                path.append((part.kind, 0, part.id))
            case "name":
                path.append((part.kind, 1, part.name))
            case _:
                raise invalid("The key path is incomplete.")
    if not path:
        raise invalid("The key path is empty.")
    return Place(scope_of(key.partition_id, request), tuple(path))


def key_at(place: Place) -> Message:
    """The key of a place."""
    key = Key()
    key.partition_id.project_id, key.partition_id.database_id, key.partition_id.namespace_id = place.scope
    for kind, named, name in place.path:
        part = key.path.add(kind=kind)
        if named:
            part.name = name
        else:
            part.id = name
    return key


def order_of(value: Message) -> Order:
    """How a value sorts among all others, as https://cloud.google.com/datastore/docs/concepts/entities orders types."""
    kind = value.WhichOneof("value_type")
    match kind:
        case None | "null_value":
            return 0, 0
        case "integer_value":
            return 1, value.integer_value
        case "timestamp_value":
            return 1, value.timestamp_value.seconds * 1_000_000 + value.timestamp_value.nanos // 1000
        case "boolean_value":
            return 2, value.boolean_value
        case "blob_value":
            return 3, value.blob_value
        case "string_value":
            return 4, value.string_value  # by code point, which is the byte order of the UTF-8
        case "double_value":
            return 5, value.double_value
        case "key_value":
            return 7, place_of(value.key_value, value.key_value.partition_id).path
    raise unimplemented(f"values of the kind {kind}")


def indexed(entity: Message) -> dict[str, Order]:
    """The properties that are in indexes, as they sort there."""
    return {name: order_of(value) for name, value in entity.properties.items() if not value.exclude_from_indexes}


def check_entity(entity: Message) -> None:
    """Refuse what Datastore refuses to store."""
    check_key(entity.key)
    for name, value in entity.properties.items():
        if _RESERVED.fullmatch(name):
            raise invalid(f'The property name "{name}" is reserved.')
        if value.WhichOneof("value_type") in ("array_value", "entity_value"):
            raise unimplemented("arrays and entities within entities")
        limit = UNINDEXED_BYTES if value.exclude_from_indexes else INDEXED_BYTES
        if _text_bytes(value) > limit:
            raise invalid(f'The value of property "{name}" is longer than {limit} bytes.')
    if size_of(entity) > ENTITY_BYTES:
        raise invalid(f"entity is too big: {size_of(entity)} bytes, the limit is {ENTITY_BYTES}")


def size_of(entity: Message) -> int:
    """Bytes by https://cloud.google.com/datastore/docs/concepts/storage-size (May 2026)."""
    properties = sum(_bytes(name) + 1 + _value_bytes(value) for name, value in entity.properties.items())
    return _key_bytes(entity.key) + properties + 32


def _value_bytes(value: Message) -> int:
    match value.WhichOneof("value_type"):
        case "string_value":
            return _bytes(value.string_value) + 1
        case "blob_value":
            return len(value.blob_value)
        case "key_value":
            return _key_bytes(value.key_value)
        case None | "null_value" | "boolean_value":
            return 1
        case _:
            return 8


def _key_bytes(key: Message) -> int:
    namespace = key.partition_id.namespace_id
    path = sum(_bytes(part.kind) + 1 + (_bytes(part.name) + 1 if part.name else 8) for part in key.path)
    return (_bytes(namespace) + 1 if namespace else 0) + path + 16


def check_key(key: Message) -> None:
    """Refuse what cannot be the key of anything stored."""
    for part in key.path:
        _check_name("kind", part.kind)
        if part.WhichOneof("id_type") == "name":
            _check_name("name", part.name)
    if _key_bytes(key) > KEY_BYTES:
        raise invalid(f"The key is longer than {KEY_BYTES} bytes.")


def _check_name(what: str, text: str) -> None:
    if not text:
        raise invalid(f"The key path element {what} is the empty string.")
    if _bytes(text) > NAME_BYTES:
        raise invalid(f"The key path element {what} is longer than {NAME_BYTES} bytes.")
    if _RESERVED.fullmatch(text):
        raise invalid(f'The key path element {what} "{text}" is reserved.')


def _text_bytes(value: Message) -> int:
    return max(_bytes(value.string_value), len(value.blob_value))


def _bytes(text: str) -> int:
    return len(text.encode())
