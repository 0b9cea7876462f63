"""How rows lie in Datastore: orders, escapes and times must survive any text and any number."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubeq.errors import BackendError
from kubeq.queue.base import Key, Partition, Row, Tally
from kubeq.queue.datastore_entities import (
    ENTITY_BYTES,
    SHARDS,
    Place,
    entity_of,
    escaped,
    name_of,
    plain,
    prefixes,
    row_of,
    shard_of,
    sortable,
    time_of,
)
from kubeq.queue.datastore_queries import Line, cursor_of, dues, line_of, listings, next_tally
from tests.stand_ins.datastore_values import check_entity, check_key, size_of

PLACE = Place(project="project", namespace="space", database="base")
TASKS, SMALL = Partition("job/20260101-abc"), Partition("pool/p/jobs")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TIMES = st.floats(allow_nan=False)


def row(name: str, **columns: Any) -> Row:
    return Row(Key(TASKS, name), 1, "mark", Tally("pending//"), 10.0, "{}")._replace(**columns)


@given(TEXTS, TEXTS)
@example("a", "a\0")
@example("~", "\x7f")
@example("z", "é")
def test_escaped_texts_sort_as_their_bytes_do_and_come_back(one: str, two: str) -> None:
    assert (escaped(one) < escaped(two)) == (one.encode() < two.encode())
    assert plain(escaped(one)) == one


@given(TEXTS)
def test_escaped_texts_hold_only_what_a_key_may(text: str) -> None:
    assert re.fullmatch(r"[0-9A-Za-z:;<=>?@\[\\\]^_`{|}!~]*", escaped(text))


@given(TIMES, TIMES)
@example(-0.0, 0.0)
@example(0.0, math.inf)
def test_times_sort_as_numbers_and_come_back_exactly(one: float, two: float) -> None:
    if one != two:
        assert (sortable(one) < sortable(two)) == (one < two)
    assert time_of(sortable(one)) == one
    assert len(sortable(one)) == 16


@given(TEXTS, TEXTS, st.none() | TEXTS, st.none() | TIMES, TEXTS)
def test_a_row_comes_back_as_it_was_stored_and_datastore_takes_it(
    partition: str, name: str, tally: str | None, at: float | None, body: str
) -> None:
    given = Row(Key(Partition(partition), name), 7, "mark", None if tally is None else Tally(tally), at, body)
    entity = entity_of(given, PLACE)
    check_entity(entity)
    assert row_of(type(entity).FromString(entity.SerializeToString())) == given


@given(st.lists(TEXTS, min_size=1, unique=True))
def test_a_walk_over_a_partition_meets_its_rows_and_no_others(names: list[str]) -> None:
    keys = [Key(partition, name) for name in names for partition in (TASKS, Partition("job/20260101-abcd"))]
    met = []
    for query in listings(TASKS, None, PLACE):
        first, last = (
            each.property_filter.value.key_value.path[0].name for each in query.filter.composite_filter.filters
        )
        met += [key for key in keys if first <= name_of(key) < last]
    assert sorted(met) == sorted(key for key in keys if key.partition == TASKS)


def test_where_a_page_ends_the_next_begins() -> None:
    given = row("a.b", claimable_at=12.5)
    entity = entity_of(given, PLACE)
    for query in (listings(TASKS, None, PLACE)[0], dues(TASKS, 99.0, None, PLACE)[0]):
        line = line_of(entity, query)
        assert line.name == name_of(given.key)
        assert cursor_of(line).name == "a.b"
    assert cursor_of(line).claimable_at == 12.5
    (filters,) = [query.filter.composite_filter.filters for query in dues(SMALL, 99.0, cursor_of(line), PLACE)]
    assert filters[0].property_filter.value.string_value == f"0.pool!2fp!2fjobs.{line.order}"


def test_a_row_that_left_the_due_index_has_no_line_in_it() -> None:
    query = dues(TASKS, 99.0, None, PLACE)[0]
    before, after = entity_of(row("a"), PLACE), entity_of(row("a", claimable_at=None), PLACE)
    assert line_of(before, query) != line_of(after, query)
    assert isinstance(line_of(after, query), Line)


def test_tasks_are_spread_evenly_and_small_partitions_not_at_all() -> None:
    shards = [shard_of(Key(TASKS, f"{index:010d}")) for index in range(1, 10_001)]
    counts = [shards.count(shard) for shard in range(SHARDS)]
    assert max(counts) < 1.1 * min(counts)
    assert len(prefixes(TASKS)) == SHARDS
    assert {shard_of(Key(SMALL, f"{index}")) for index in range(100)} == {0}
    assert prefixes(SMALL) == ["0.pool!2fp!2fjobs."]


def test_the_tallies_of_another_partition_are_not_met() -> None:
    filters = next_tally(Partition("job/a"), "", PLACE).filter.composite_filter.filters
    first, last = (each.property_filter.value.string_value for each in filters)
    other = entity_of(row("x", key=Key(Partition("job/a-b"), "x")), PLACE).properties["tally"].string_value
    ours = entity_of(row("x", key=Key(Partition("job/a"), "x")), PLACE).properties["tally"].string_value
    assert first <= ours < last
    assert not first <= other < last


def test_what_we_take_the_service_takes_too() -> None:
    """Our limit is below the service's by more than it counts besides."""
    largest = row("n" * 500, body="")
    room = ENTITY_BYTES - entity_of(largest, PLACE).ByteSize() - 10
    entity = entity_of(largest._replace(body="x" * room), PLACE)
    assert size_of(entity) <= 1_048_572
    check_entity(entity)
    with pytest.raises(BackendError, match="cannot be written"):
        entity_of(largest._replace(body="x" * (room + 20)), PLACE)


def test_the_longest_name_is_a_key_still() -> None:
    longest = 1_500 - len("0.job!2f20260101!2dabc.") - len("1234567890123456.")
    check_key(entity_of(row("x" * longest), PLACE).key)
    with pytest.raises(BackendError, match="takes 1501 bytes of at most 1500"):
        entity_of(row("x" * (longest + 1)), PLACE)


@pytest.mark.parametrize("column", ["body", "change_id"])
def test_what_is_no_unicode_is_refused(column: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        entity_of(row("a", **{column: "\ud800"}), PLACE)
