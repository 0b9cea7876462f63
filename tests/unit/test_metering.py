"""Counting requests, from many threads, and adding the counts up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from kubeq.metering import Meter, added


def test_nothing_is_lost_when_many_count_at_once() -> None:
    meter = Meter()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: meter.count("Query"), range(2_000)))
    meter.count("Lookup", 3)
    assert meter.read() == {"Query": 2_000, "Lookup": 3}


def test_what_was_read_does_not_change_any_more() -> None:
    meter = Meter()
    meter.count("Query")
    before = meter.read()
    meter.count("Query")
    assert before == {"Query": 1}


def test_counts_are_added_by_kind() -> None:
    assert added({"PutObject": 2, "GetObject": 1}, {}, {"PutObject": 5}) == {"PutObject": 7, "GetObject": 1}
    assert added() == {}
