"""The queries that find rows in Datastore, and where in an index a page ends. Makes no request.

Each is a single range of a single property (or of the keys), which the indexes that Datastore keeps by itself answer:
no composite index has to be made. How rows lie in them is in `datastore_entities`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from google.cloud.datastore_v1.types import query as queries

from kubeq.queue.base import Cursor, Partition, Tally
from kubeq.queue.datastore_entities import (
    KIND,
    Message,
    Place,
    escaped,
    plain,
    point,
    prefixes,
    sortable,
    text_of,
    time_of,
)

_Query, _Op = queries.Query.pb(), queries.PropertyFilter.Operator
_KEY = "__key__"


class Line(NamedTuple):
    """A line of an index: where it stands among those of all shards, and the entity's key name."""

    order: str
    name: str


def listings(partition: Partition, after: Cursor | None, place: Place) -> Sequence[Message]:
    """A query a shard: the rows behind `after`, by their names."""
    made = []
    for prefix in prefixes(partition):
        query = _walk(_KEY)
        if after is None:
            _limit(query, _KEY, _Op.GREATER_THAN_OR_EQUAL, prefix, place)
        else:
            _limit(query, _KEY, _Op.GREATER_THAN, prefix + escaped(after.name), place)
        _limit(query, _KEY, _Op.LESS_THAN, _end(prefix), place)
        made.append(query)
    return made


def dues(partition: Partition, before: float, after: Cursor | None, place: Place) -> Sequence[Message]:
    """A query a shard: the rows behind `after` and not later than `before`, by time, then name."""
    start = "" if after is None else f"{sortable(after.claimable_at or 0.0)}.{escaped(after.name)}"
    made = []
    for prefix in prefixes(partition):
        query = _walk("due")
        _limit(query, "due", _Op.GREATER_THAN, prefix + start, place)
        _limit(query, "due", _Op.LESS_THAN, _end(f"{prefix}{sortable(before)}."), place)
        made.append(query)
    return made


def next_tally(partition: Partition, after: str, place: Place) -> Message:
    """The query for the first of a partition's tallies behind that value of the property, "" for all of them."""
    query = _walk("tally")
    prefix = escaped(partition) + "."
    _limit(query, "tally", _Op.GREATER_THAN if after else _Op.GREATER_THAN_OR_EQUAL, after or prefix, place)
    _limit(query, "tally", _Op.LESS_THAN, _end(prefix), place)
    query.projection.add().property.name = "tally"
    return query


def all_of(tally: str, place: Place) -> Message:
    """The query for all rows with that value of the property."""
    query = _Query()
    query.kind.add(name=KIND)
    _limit(query, "tally", _Op.EQUAL, tally, place)
    return query


def index_only(query: Message) -> Message:
    """The same query for the lines of the index alone: one read for all of them, whatever their number."""
    query.projection.add().property.name = query.order[0].property.name
    return query


def line_of(entity: Message, query: Message) -> Line:
    """The line of the walked index that an entity came from."""
    name = entity.key.path[0].name
    walked = name if query.order[0].property.name == _KEY else text_of(entity, "due")
    return Line(walked.split(".", 2)[-1], name)


def cursor_of(line: Line) -> Cursor:
    """Where the page after this line begins."""
    time, _, name = line.order.rpartition(".")
    return Cursor(time_of(time) if time else None, plain(name))


def tally_of(value: str) -> Tally:
    """The tally in a value of the property."""
    return Tally(plain(value.partition(".")[2]))


def _end(prefix: str) -> str:
    """The first text behind all that begin with a prefix that ends in a dot."""
    return prefix[:-1] + chr(ord(".") + 1)


def _walk(property_name: str) -> Message:
    query = _Query()
    query.kind.add(name=KIND)
    query.order.add(direction=queries.PropertyOrder.Direction.ASCENDING).property.name = property_name
    query.filter.composite_filter.op = queries.CompositeFilter.Operator.AND
    return query


def _limit(query: Message, property_name: str, operator: int, text: str, place: Place) -> None:
    if query.filter.WhichOneof("filter_type") == "composite_filter":
        one = query.filter.composite_filter.filters.add().property_filter
    else:
        one = query.filter.property_filter
    one.property.name, one.op = property_name, operator
    if property_name == _KEY:
        point(one.value.key_value, place, text)
    else:
        one.value.string_value = text
