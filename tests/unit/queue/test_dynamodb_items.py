"""How rows lie in DynamoDB: nothing is lost, texts sort as what they stand for, what does not fit is said."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.errors import BackendError
from kubeq.queue.base import LARGE, Key, Partition, Row, Tally
from kubeq.queue.dynamodb_items import (
    FIRST_DUE,
    ITEM_BYTES,
    NAME_BYTES,
    SHARDS,
    after_all_due,
    due_text,
    hash_key,
    hash_keys,
    item_key,
    item_of,
    row_of,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TIMES = st.floats(allow_nan=False, allow_infinity=False)
PARTITIONS = st.builds(Partition, st.one_of(TEXT, TEXT.map(LARGE.__add__)))
TASKS = Partition(f"{LARGE}20260101-abc")


@given(st.builds(Key, PARTITIONS, NAMES), st.integers(1, 2**62), TEXT, st.none() | TEXT, st.none() | TIMES, TEXT)
def test_a_row_comes_back_as_it_was(
    key: Key, version: int, change_id: str, tally: str | None, at: float | None, body: str
) -> None:
    row = Row(key, version, change_id, None if tally is None else Tally(tally), at, body)
    assert row_of(item_of(row, SHARDS)) == row


@given(st.lists(st.tuples(TIMES, NAMES), min_size=2))
def test_the_texts_of_the_index_sort_by_time_and_then_by_name(due: list[tuple[float, str]]) -> None:
    def by_text(each: tuple[float, str]) -> bytes:
        return due_text(*each).encode()

    assert sorted(due, key=by_text) == sorted(due, key=lambda each: (each[0], each[1].encode()))
    assert all(due_text(*each) > FIRST_DUE for each in due)


@given(TIMES, TIMES, NAMES)
def test_the_end_of_a_range_lies_after_all_that_is_due_and_before_the_rest(at: float, before: float, name: str) -> None:
    assert (due_text(at, name) <= after_all_due(before)) == (at <= before)
    assert due_text(at, name) <= after_all_due(math.inf)


def test_zero_is_one_time_whatever_its_sign() -> None:
    assert due_text(-0.0, "a") == due_text(0.0, "a")


def test_the_tasks_of_a_job_are_spread_evenly_wherever_one_looks() -> None:
    for first in (1, 999_001):
        names = [f"{index:010d}" for index in range(first, first + 1000)]
        spread = Counter(hash_key(Key(TASKS, name), SHARDS) for name in names)
        assert set(spread) == set(hash_keys(TASKS, SHARDS))
        assert max(spread.values()) < 1.1 * 1000 / SHARDS


def test_a_small_partition_is_in_one_place() -> None:
    jobs = Partition("pool/p/jobs")
    assert hash_keys(jobs, SHARDS) == [hash_key(Key(jobs, "a"), SHARDS)] == [hash_key(Key(jobs, "b"), SHARDS)]


def test_partitions_that_end_like_a_shard_are_not_mixed_up() -> None:
    plain, marked = Partition("a"), Partition("a#0")
    assert not set(hash_keys(plain, SHARDS)) & set(hash_keys(marked, SHARDS))


def test_a_row_is_found_by_the_key_it_was_stored_under() -> None:
    row = Row(Key(TASKS, "0000000017"), 1, "c", None, None, "")
    item = item_of(row, SHARDS)
    assert item_key(row.key, SHARDS) == {"p": item["p"], "n": item["n"]}


def filled(size: int) -> Row:
    """A row whose item has that size by DynamoDB's rules: the bytes of names and values, a number at its largest."""
    empty = Row(Key(TASKS, "n"), 1, "c", Tally("t"), 1.0, "")
    overhead = sum(len(name) + len(value.get("S", "x" * 21)) for name, value in item_of(empty, SHARDS).items())
    return empty._replace(body="x" * (size - overhead))


def test_an_item_of_just_the_size_that_dynamodb_takes_is_made() -> None:
    item_of(filled(ITEM_BYTES), SHARDS)


def test_a_row_over_the_size_is_named_with_what_to_do() -> None:
    with pytest.raises(
        BackendError, match=r"the row 'n' of job/20260101-abc cannot be stored: it has 409,601 bytes"
    ) as no:
        item_of(filled(ITEM_BYTES + 1), SHARDS)
    assert "-u" in (no.value.hint or "")
    assert not no.value.transient


def test_size_is_counted_in_bytes_and_not_in_letters() -> None:
    with pytest.raises(BackendError, match="cannot be stored"):
        item_of(Row(Key(TASKS, "n"), 1, "c", None, None, "é" * 250_000), SHARDS)


@pytest.mark.parametrize("name", ["", "é" * (NAME_BYTES // 2 + 1)])
def test_a_name_that_dynamodb_takes_for_no_key_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match="names of 1 to 1008 bytes"):
        item_of(Row(Key(TASKS, name), 1, "c", None, None, ""), SHARDS)
