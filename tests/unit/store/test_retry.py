"""The one wrapper that retries."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, ClassVar

import pytest

from kubeq.core.model import Reach
from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound
from kubeq.store.base import Stored
from kubeq.store.memory import MemoryStore
from kubeq.store.patience import Patience
from kubeq.store.retry import Retrying

CONTENT = bytes(range(256)) * 1000


class Flaky:
    """A memory store behind a bad line: every request fails `failures` times, streams break after `cut` bytes."""

    reach: ClassVar[Reach] = Reach.NETWORK

    def __init__(self, failures: int = 0, cut: int | None = None, error: BackendError | None = None) -> None:
        self.inner = MemoryStore()
        self.url = "flaky:"
        self.failures = failures
        self.cut = cut
        self.error = error or BackendError("the line is bad", transient=True)
        self.requests: list[str] = []

    def _fail(self, request: str) -> None:
        self.requests.append(request)
        if self.failures > 0:
            self.failures -= 1
            raise self.error

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        with open() as source:
            source.read(1)
        self._fail(f"put {key}")
        return self.inner.put(key, open, size, sha256)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        self._fail(f"get {key} {start}")
        with self.inner.get(key, start) as stream:
            return io.BufferedReader(Breaking(stream.read(), self.cut, self.error), 1)

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        self._fail("stat")
        return self.inner.stat(keys)

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        self.requests.append(f"list {after}")
        for number, stored in enumerate(self.inner.list(prefix, after)):
            if self.cut is not None and number == self.cut:
                raise self.error
            yield stored

    def delete(self, keys: Sequence[str]) -> None:
        self._fail("delete")
        self.inner.delete(keys)


class Breaking(io.RawIOBase):
    def __init__(self, content: bytes, cut: int | None, error: BackendError) -> None:
        self.rest, self.cut, self.error = content, cut, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if self.cut == 0:
            raise self.error
        count = min(len(buffer), len(self.rest), len(self.rest) if self.cut is None else self.cut)
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        self.cut = None if self.cut is None else self.cut - count
        return count


def put(store: MemoryStore | Retrying, key: str, content: bytes) -> bool:
    return store.put(key, lambda: io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def retrying(store: Flaky, pauses: list[float] | None = None, attempts: int = 4) -> Retrying:
    slept = pauses if pauses is not None else []
    return Retrying(store, slept.append, attempts=attempts, draw=lambda: 0.999)


def test_a_transient_error_is_tried_again_until_it_works() -> None:
    store = Flaky(failures=3)
    assert put(retrying(store), "a", b"abc")
    assert store.requests == ["put a"] * 4
    for failures in (1, 2, 3):
        store.failures = failures
        assert retrying(store).stat(["a"]) == {"a": 3}
    store.failures = 3
    retrying(store).delete(["a"])
    assert store.inner.stat(["a"]) == {}


def test_the_last_error_is_raised_when_all_attempts_failed() -> None:
    store, pauses = Flaky(failures=99), list[float]()
    with pytest.raises(BackendError, match="the line is bad"):
        retrying(store, pauses).stat(["a"])
    assert len(store.requests) == 4
    assert len(pauses) == 3


@pytest.mark.parametrize("error", [BackendError("no"), AccessDenied("go away")])
def test_a_permanent_error_is_raised_at_once(error: BackendError) -> None:
    store, pauses = Flaky(failures=1, error=error), list[float]()
    with pytest.raises(type(error)):
        retrying(store, pauses).stat(["a"])
    assert pauses == []


def test_a_call_that_has_been_given_its_time_is_not_repeated() -> None:
    store, pauses = Flaky(failures=1, error=BackendError("no", transient=True, waited=True)), list[float]()
    with pytest.raises(BackendError):
        retrying(store, pauses).stat(["a"])
    assert (len(store.requests), pauses) == (1, [])


def test_one_request_of_many_is_repeated_by_itself_and_its_call_then_not_again() -> None:
    store, pauses = Flaky(failures=99), list[float]()
    patience = Patience(sleep=pauses.append, attempts=3, draw=lambda: 0.999)

    class Backend(Flaky):
        def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
            return patience.repeat_one_of_many(lambda: store.stat(keys))

    with pytest.raises(BackendError, match="the line is bad") as failed:
        retrying(Backend()).stat(["a"])
    assert (failed.value.transient, failed.value.waited) == (True, True)
    assert (len(store.requests), len(pauses)) == (3, 2)
    store.failures, store.error = 2, BackendError("bad for a moment", transient=True)
    assert patience.repeat_one_of_many(lambda: store.stat(["a"])) == {}


def test_what_is_not_there_and_what_is_wrong_are_not_retried() -> None:
    store, pauses = Flaky(), list[float]()
    with pytest.raises(ObjectNotFound):
        retrying(store, pauses).get("absent")
    with pytest.raises(IntegrityError):
        retrying(store, pauses).put("a", lambda: io.BytesIO(b"abc"), 3, "0" * 64)
    assert pauses == []


def test_pauses_grow_with_full_jitter_up_to_thirty_seconds() -> None:
    pauses: list[float] = []
    with pytest.raises(BackendError):
        retrying(Flaky(failures=99), pauses, attempts=10).stat(["a"])
    assert pauses == pytest.approx([0.999 * bound for bound in (0.5, 1, 2, 4, 8, 16, 30, 30, 30)])
    drawn: list[float] = []
    with pytest.raises(BackendError):
        Retrying(Flaky(failures=99), drawn.append, attempts=10, draw=lambda: 0.0).stat(["a"])
    assert drawn == [0.0] * 9


def test_who_waits_long_is_told_why_and_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Flaky(failures=2)
    patient = Retrying(store, lambda pause: None)
    patient.stat(["a"])
    assert caplog.messages == []
    store.failures = 7
    patient.stat(["a"])
    store.failures = 7
    patient.stat(["a"])
    assert caplog.messages == ["the line is bad; trying again"]


def test_a_source_is_opened_again_for_every_try() -> None:
    opened: list[int] = []

    def open() -> BinaryIO:
        opened.append(1)
        return io.BytesIO(b"abc")

    assert retrying(Flaky(failures=2)).put("a", open, 3, hashlib.sha256(b"abc").hexdigest())
    assert len(opened) == 4


@pytest.mark.parametrize("start", [0, 1000, len(CONTENT)])
def test_a_stream_that_breaks_goes_on_where_it_broke(start: int) -> None:
    store = Flaky(cut=70_000)
    put(store.inner, "a", CONTENT)
    with retrying(store).get("a", start) as stream:
        assert stream.read() == CONTENT[start:]
    broken_at = range(start + 70_000, len(CONTENT) + 1, 70_000)
    assert store.requests == [f"get a {offset}" for offset in (start, *broken_at)]


def test_a_stream_that_breaks_for_good_raises_and_a_stream_in_progress_never_runs_out_of_tries() -> None:
    store, pauses = Flaky(cut=1000), list[float]()
    put(store.inner, "a", CONTENT)
    with retrying(store, pauses, attempts=2).get("a") as stream:
        assert stream.read() == CONTENT
    assert len(pauses) == len(CONTENT) // 1000
    store.cut = 0
    with retrying(store, attempts=2).get("a") as stream, pytest.raises(BackendError, match="the line is bad"):
        stream.read()


def test_a_listing_that_breaks_goes_on_after_the_last_key() -> None:
    store = Flaky(cut=7)
    keys = [f"k/{number:03d}" for number in range(40)]
    for key in keys:
        put(store.inner, key, b"1")
    assert [stored.key for stored in retrying(store).list("k/")] == keys
    assert store.requests == [f"list {after}" for after in ("", *keys[6::7])]


def test_the_wrapper_answers_for_what_it_wraps() -> None:
    store = retrying(Flaky())
    assert (store.reach, store.url) == (Reach.NETWORK, "flaky:")
