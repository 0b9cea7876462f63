"""Logs while they grow: nothing lost and nothing twice, also when the stored stdout takes their place (F145)."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeq.core.digest import Digest
from kubeq.core.model import JobId, TaskId
from kubeq.errors import BackendError, IntegrityError
from kubeq.store.logs import LogReader, LogWriter
from kubeq.store.memory import MemoryStore
from kubeq.store.outputs import Outputs

TASK = TaskId(JobId("demo-1"), 17)


class Unreliable(MemoryStore):
    """A memory store that can lose an answer to a put, or fail a get."""

    lose_answer = False
    failing_gets = 0

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        created = super().put(key, open, size, sha256)
        if self.lose_answer:
            self.lose_answer = False
            raise BackendError("no answer came", transient=True)
        return created

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        if self.failing_gets:
            self.failing_gets -= 1
            if self.failing_gets == 0:
                raise BackendError("the line is bad", transient=True)
        return super().get(key, start)


def log(store: MemoryStore, attempt: int = 1) -> tuple[LogWriter, LogReader]:
    return LogWriter(store, TASK, attempt), LogReader(store, Outputs(store), TASK, attempt)


def store_stdout(store: MemoryStore, content: bytes, attempt: int = 1) -> None:
    digest = Digest.of(content)
    key = f"results/demo-1/17/{attempt}.stdout.txt"
    assert store.put(key, lambda: io.BytesIO(content), digest.size, digest.sha256)


def test_segments_are_numbered_objects() -> None:
    store = MemoryStore()
    writer, _ = log(store, attempt=3)
    for chunk in (b"one", b"", b"two"):
        writer.append(chunk)
    keys = [stored.key for stored in store.list("")]
    assert keys == ["logs/demo-1/17/3/00000001", "logs/demo-1/17/3/00000002"]


def test_each_read_gives_what_came_since_the_last() -> None:
    writer, reader = log(MemoryStore())
    assert reader.read_new() == b""
    writer.append(b"one ")
    writer.append(b"two ")
    assert reader.read_new() == b"one two "
    assert reader.read_new() == b""
    writer.append(b"three")
    assert reader.read_new() == b"three"
    assert not reader.finished


def test_attempts_have_logs_of_their_own() -> None:
    store = MemoryStore()
    first = log(store, attempt=1)[0]
    first.append(b"first")
    log(store, attempt=10)[0].append(b"tenth")
    assert log(store, attempt=1)[1].read_new() == b"first"
    first.delete()
    assert log(store, attempt=10)[1].read_new() == b"tenth"


def test_the_stored_stdout_continues_where_the_segments_ended() -> None:
    store = MemoryStore()
    writer, reader = log(store)
    writer.append(b"live ")
    assert reader.read_new() == b"live "
    writer.append(b"unseen ")
    store_stdout(store, b"live unseen rest")
    writer.delete()
    assert reader.read_new() == b"unseen rest"
    assert reader.finished
    assert reader.read_new() == b""


def test_a_reader_that_comes_late_gets_the_stored_stdout() -> None:
    store = MemoryStore()
    store_stdout(store, b"all of it")
    reader = log(store)[1]
    assert reader.read_new() == b"all of it"
    assert reader.finished


def test_an_empty_stdout_finishes_the_log() -> None:
    store = MemoryStore()
    store_stdout(store, b"")
    reader = log(store)[1]
    assert reader.read_new() == b""
    assert reader.finished


def test_segments_of_a_lost_attempt_stay_readable_and_are_never_finished() -> None:
    writer, reader = log(MemoryStore())
    writer.append(b"last words")
    assert reader.read_new() == b"last words"
    assert reader.read_new() == b""
    assert not reader.finished


def test_a_request_that_fails_loses_no_segment() -> None:
    store = Unreliable()
    writer, reader = log(store)
    for chunk in (b"one ", b"two ", b"three"):
        writer.append(chunk)
    store.failing_gets = 3
    with pytest.raises(BackendError):
        reader.read_new()
    assert reader.read_new() == b"one two three"


def test_a_segment_whose_answer_was_lost_is_recognised_when_it_comes_again_with_more() -> None:
    store = Unreliable()
    writer, reader = log(store)
    writer.append(b"zero ")
    store.lose_answer = True
    with pytest.raises(BackendError):
        writer.append(b"one ")
    writer.append(b"one two ")
    store.lose_answer = True
    with pytest.raises(BackendError):
        writer.append(b"three ")
    writer.append(b"three ")
    writer.append(b"four")
    assert reader.read_new() == b"zero one two three four"


def test_two_writers_of_one_attempt_are_noticed() -> None:
    store = MemoryStore()
    log(store)[0].append(b"mine")
    with pytest.raises(IntegrityError, match="00000001"):
        log(store)[0].append(b"yours")


def test_deleting_takes_all_segments_and_may_be_repeated() -> None:
    store = MemoryStore()
    writer, _ = log(store)
    for number in range(1, 1203):
        writer.append(b"%d" % number)
    writer.delete()
    writer.delete()
    assert list(store.list("")) == []


def test_deleting_takes_a_segment_whose_put_got_no_answer() -> None:
    store = Unreliable()
    writer, _ = log(store)
    writer.append(b"one")
    store.lose_answer = True
    with pytest.raises(BackendError):
        writer.append(b"two")
    writer.delete()
    assert list(store.list("")) == []


def test_deleting_asks_for_no_listing_and_for_nothing_at_all_where_nothing_was_written() -> None:
    store = MemoryStore()
    writer, _ = log(store)
    writer.append(b"")
    writer.delete()
    assert store.requests == {}
    writer.append(b"one")
    writer.delete()
    assert store.requests == {"put": 1, "delete": 1}


STEP = st.one_of(
    st.just("read"),
    st.just("failing read"),
    st.just("lose answer"),
    st.binary(min_size=1, max_size=5),
)


@settings(deadline=None, max_examples=400)
@given(
    live=st.lists(STEP, max_size=30),
    rest=st.binary(max_size=10),
    deletions=st.lists(st.integers(0, 5), max_size=8),
)
def test_no_byte_is_lost_or_repeated_whenever_one_reads(
    live: list[str | bytes], rest: bytes, deletions: list[int]
) -> None:
    store = Unreliable()
    writer, reader = log(store)
    written, unsent, seen = b"", b"", b""

    def look() -> None:
        nonlocal seen
        try:
            seen += reader.read_new()
        except BackendError:
            assert store.failing_gets == 0
        assert written.startswith(seen)

    for step in live:
        if step == "lose answer":
            store.lose_answer = True
        elif isinstance(step, bytes):
            written += step
            unsent += step
            try:
                writer.append(unsent)
                unsent = b""
            except BackendError:
                continue
        else:
            store.failing_gets = 2 if step == "failing read" else 0
            look()
            store.failing_gets = 0
    store.lose_answer = False
    written += rest
    store_stdout(store, written)
    for count in deletions:
        # A deletion of many keys is not atomic: readers meet any part of it.
        store.delete([stored.key for stored in store.list("logs/")][:count])
        look()
    writer.delete()
    look()
    look()
    assert seen == written
    assert reader.finished
