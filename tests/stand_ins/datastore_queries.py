"""How the Datastore emulator answers queries: only those that the built-in indexes of a new database answer.

A query that would need a composite index is refused, as the service refuses it until somebody has made one. Filters are
conjunctions of =, <, <=, > and >=; there are no ancestors, no arrays, no DISTINCT ON and no GQL.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import grpc
from google.cloud.datastore_v1.types import query as queries

from tests.stand_ins.datastore_storage import Entry, Storage, Version
from tests.stand_ins.datastore_values import (
    KEY,
    Entity,
    Message,
    Order,
    Path,
    Place,
    Refused,
    Scope,
    Value,
    indexed,
    invalid,
    key_at,
    order_of,
    place_of,
    unimplemented,
)

BATCH = 300
"""Results in one answer; the rest is asked for with its cursor. Google's older emulator does it so."""
LAST_PATH: Path = (("\U0010ffff", 2, ""),)
"""After every key."""
_Operators = queries.PropertyFilter.Operator
_TESTS: dict[int, Callable[[Any, Any], bool]] = {
    _Operators.EQUAL: operator.eq,
    _Operators.LESS_THAN: operator.lt,
    _Operators.LESS_THAN_OR_EQUAL: operator.le,
    _Operators.GREATER_THAN: operator.gt,
    _Operators.GREATER_THAN_OR_EQUAL: operator.ge,
}
_NOWHERE = Scope("cursor", "", "")
"""A cursor's key says where in an index, not where in the world: it is read back with its request's own scope."""
_More = queries.QueryResultBatch.MoreResultsType
_Results = queries.EntityResult.ResultType


class Condition(NamedTuple):
    """One filter: a property (or the key), an operator, and what to compare with."""

    name: str
    operator: int
    bound: Any

    def holds(self, value: Any) -> bool:
        """For values of one type only: a filter never finds values of another."""
        same_type = self.name == KEY or value[0] == self.bound[0]
        return same_type and _TESTS[self.operator](value, self.bound)


class Match(NamedTuple):
    """An entity that a query finds, and its line in the index that the query went along."""

    place: Place
    version: Version
    entry: Entry


@dataclass(frozen=True, slots=True)
class Plan:
    """A query as it is carried out: one index, walked in one direction between two bounds, the rest tested."""

    kind: str
    index: str
    descending: bool
    conditions: tuple[Condition, ...]
    projected: tuple[str, ...]
    after: Entry | None
    until: Entry | None
    offset: int
    limit: int | None


def plan(query: Message, request: Message) -> Plan:
    """The plan of a query that built-in indexes can answer; refuses all others."""
    if len(query.kind) != 1 or query.distinct_on:
        raise unimplemented("queries without a kind, nor DISTINCT ON")
    conditions = tuple(_conditions(query.filter, request))
    orders = [(order.property.name, order.direction == 2) for order in query.order]
    projected = tuple(projection.property.name for projection in query.projection)
    ranged = {each.name for each in conditions if each.operator != _Operators.EQUAL}
    fixed = {each.name for each in conditions if each.operator == _Operators.EQUAL}
    if fixed & set(projected):
        raise invalid("Cannot use projection on a property with an equality filter.")
    walked = ({name for name, _ in orders} | ranged | set(projected)) - {KEY}
    if len(walked) > 1 or (walked and (fixed - walked or KEY in ranged)):
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "no matching index found.")
    index = next(iter(walked), next(iter(sorted(fixed - {KEY})), KEY))
    return Plan(
        kind=query.kind[0].name,
        index=index,
        descending=bool(orders) and orders[0][1],
        conditions=conditions,
        projected=projected,
        after=_entry_of(query.start_cursor, index) if query.start_cursor else None,
        until=_entry_of(query.end_cursor, index) if query.end_cursor else None,
        offset=query.offset,
        limit=query.limit.value if query.HasField("limit") else None,
    )


def matches(storage: Storage, scope: Scope, plan: Plan, version: int | None) -> Iterator[Match]:
    """What the plan finds, in its order, as it stood then or stands now; offset and limit are not applied."""
    lines: Iterator[Entry] = storage.entries(scope, plan.kind, plan.index, version, _bounds(plan))
    if plan.descending:
        lines = reversed(list(lines))
    for entry in lines:
        if plan.until is not None and _reached(entry, plan.until, plan.descending):
            return
        if plan.after is not None and not _passed(entry, plan.after, plan.descending):
            continue
        place = Place(scope, entry.path)
        found = storage.at(place, version)
        assert found is not None, "an index names an entity that is not there"
        if _satisfies(entry, found, plan):
            yield Match(place, found, entry)


def answer(found: Iterator[Match], plan: Plan, most: int) -> tuple[Message, Sequence[Match]]:
    """The batch to send, and the matches in it; `most` results, however many more there are."""
    batch = queries.QueryResultBatch.pb()()
    batch.skipped_results = sum(1 for _ in islice(found, plan.offset))
    wanted = most if plan.limit is None else min(most, plan.limit)
    sent = list(islice(found, wanted))
    batch.entity_result_type = _result_type(plan)
    for match in sent:
        _add_result(batch, match, plan)
    if plan.limit is not None and len(sent) == plan.limit:
        batch.more_results = _More.MORE_RESULTS_AFTER_LIMIT
    else:
        batch.more_results = _More.NO_MORE_RESULTS if next(found, None) is None else _More.NOT_FINISHED
    if sent:
        batch.end_cursor = batch.entity_results[-1].cursor
    elif plan.after is not None:
        batch.end_cursor = _cursor(plan.after, plan)
    return batch, sent


def _result_type(plan: Plan) -> int:
    if plan.projected == (KEY,):
        return int(_Results.KEY_ONLY)
    return int(_Results.PROJECTION if plan.projected else _Results.FULL)


def _add_result(batch: Message, match: Match, plan: Plan) -> None:
    result = batch.entity_results.add()
    result.cursor = _cursor(match.entry, plan)
    entity = match.version.entity
    assert entity is not None, "a match of an entity that was deleted"
    if not plan.projected:
        result.entity.CopyFrom(entity)
        result.version = match.version.number
        for field, number in (("create_time", match.version.created), ("update_time", match.version.number)):
            getattr(result, field).FromMicroseconds(number)
        return
    result.entity.key.CopyFrom(key_at(match.place))
    for name in plan.projected:
        if name != KEY:
            result.entity.properties[name].CopyFrom(entity.properties[name])


def _conditions(filter: Message, request: Message) -> Iterator[Condition]:
    match filter.WhichOneof("filter_type"):
        case None:
            return
        case "composite_filter":
            if filter.composite_filter.op != queries.CompositeFilter.Operator.AND:
                raise unimplemented("OR")
            for each in filter.composite_filter.filters:
                yield from _conditions(each, request)
        case "property_filter":
            one = filter.property_filter
            if one.op not in _TESTS:
                raise unimplemented(f"the operator {_Operators(one.op).name}")
            of_key = one.property.name == KEY
            bound = place_of(one.value.key_value, request).path if of_key else order_of(one.value)
            yield Condition(one.property.name, one.op, bound)


def _bounds(plan: Plan) -> tuple[Entry, Entry | None]:
    """Between which lines of the index everything lies that the conditions on its property let through."""
    on_keys = plan.index == KEY
    lowest: Any = () if on_keys else (-1, None)
    first, last = _entry(lowest, on_keys), None
    for name, op, bound in plan.conditions:
        if name != plan.index:
            continue
        if op in (_Operators.EQUAL, _Operators.GREATER_THAN_OR_EQUAL, _Operators.GREATER_THAN):
            first = max(first, _entry(bound, on_keys))
        if op in (_Operators.EQUAL, _Operators.LESS_THAN_OR_EQUAL, _Operators.LESS_THAN):
            upper = _entry((*bound, *LAST_PATH) if on_keys else bound, on_keys, LAST_PATH)
            last = upper if last is None else min(last, upper)
    return first, last


def _entry(bound: Any, on_keys: bool, path: Path = ()) -> Entry:
    return Entry(None, bound) if on_keys else Entry(bound, path)


def _satisfies(entry: Entry, found: Version, plan: Plan) -> bool:
    values: dict[str, Order | Path] = {KEY: entry.path}
    if entry.value is not None:
        values[plan.index] = entry.value
    if any(each.name not in values for each in plan.conditions):
        values |= indexed(found.entity)
    return all(each.name in values and each.holds(values[each.name]) for each in plan.conditions)


def _passed(entry: Entry, cursor: Entry, descending: bool) -> bool:
    return entry < cursor if descending else entry > cursor


def _reached(entry: Entry, cursor: Entry, descending: bool) -> bool:
    return entry < cursor if descending else entry > cursor


def _cursor(entry: Entry, plan: Plan) -> bytes:
    """The line of the index, as an entity with that key and that value."""
    at = Entity()
    at.key.CopyFrom(key_at(Place(_NOWHERE, entry.path)))
    if entry.value is not None:
        at.properties[plan.index].CopyFrom(_value_of(entry.value))
    return bytes(at.SerializeToString())


def _entry_of(cursor: bytes, index: str) -> Entry:
    at = Entity.FromString(cursor)
    value = order_of(at.properties[index]) if index in at.properties else None
    return Entry(value, place_of(at.key, at.key.partition_id).path)


def _value_of(order: Order) -> Message:
    """A value that sorts so."""
    kind, value = order
    fields = {1: "integer_value", 2: "boolean_value", 3: "blob_value", 4: "string_value", 5: "double_value"}
    if kind in fields:
        return Value(**{fields[kind]: value})
    if kind == 0:
        return Value(null_value=0)
    raise unimplemented("cursors in an index of keys as values")
