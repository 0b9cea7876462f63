"""The ObjectStore contract, over every backend. A backend that passes may stand in for any other.

Services are stood in for by emulators; with `-m live` the real ones are asked (what for, the entries in BACKENDS say).
"""

from __future__ import annotations

import hashlib
import io
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeq.core.model import Reach
from kubeq.errors import IntegrityError, ObjectNotFound
from kubeq.queue.memory import MemoryTable
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.local import LocalStore
from kubeq.store.memory import MemoryStore
from kubeq.store.open import open_store
from tests.relays import Below, served
from tests.stand_ins import gcs, live, s3

BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], ObjectStore]] = {
    "gcs": lambda request, directory: gcs.emulated_store(request),
    "gcs-live": lambda request, directory: live.live_store(request, gcs.LIVE),
    "local": lambda request, directory: LocalStore(directory / "store"),
    "memory": lambda request, directory: MemoryStore(),
    "relay": lambda request, directory: _behind_a_relay(request, directory),
    "s3": lambda request, directory: s3.emulated_store(request.getfixturevalue("ministack")),
    "s3-live": lambda request, directory: live.live_store(request, s3.LIVE),
}
NAMES = [pytest.param(name, marks=[pytest.mark.live] * name.endswith("-live")) for name in sorted(BACKENDS)]


def _behind_a_relay(request: pytest.FixtureRequest, directory: Path) -> ObjectStore:
    """What a node sees of a directory through a relay, guard and all: the suite's keys are in the node's own folder."""
    relay = served(directory, MemoryTable(), LocalStore(directory / "store"))
    one = relay.__enter__()
    request.addfinalizer(lambda: relay.__exit__(None, None, None))
    return Below(one.store(one.admit("n1")), "nodes/n1/")


@pytest.fixture(params=NAMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return BACKENDS[request.param](request, tmp_path)


def put(store: ObjectStore, key: str, content: bytes = b"x") -> bool:
    return store.put(key, lambda: io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def read(store: ObjectStore, key: str, start: int = 0) -> bytes:
    with store.get(key, start) as stream:
        return stream.read()


def keys(listing: Iterator[Stored]) -> list[str]:
    return [stored.key for stored in listing]


def test_an_object_is_read_as_it_was_put(store: ObjectStore) -> None:
    content = bytes(range(256)) * 5000
    assert put(store, "a/b", content)
    assert read(store, "a/b") == content
    assert list(store.list("")) == [Stored("a/b", len(content))]


def test_every_kind_of_request_is_counted(store: ObjectStore) -> None:
    before = sum(store.requests.values())
    put(store, "a")
    read(store, "a")
    store.stat(["a"])
    keys(store.list(""))
    store.delete(["a"])
    assert sum(store.requests.values()) >= before + 5


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    assert put(store, "nothing", b"")
    assert read(store, "nothing") == b""
    assert store.stat(["nothing"]) == {"nothing": 0}


def test_an_object_larger_than_any_buffer_is_stored_whole(store: ObjectStore) -> None:
    content = random.Random(1).randbytes(20 * 2**20 + 1)
    assert put(store, "large", content)
    assert read(store, "large") == content
    assert not put(store, "large", content)


def test_the_second_put_of_a_key_is_false_and_changes_nothing(store: ObjectStore) -> None:
    assert put(store, "a", b"first")
    assert not put(store, "a", b"second")
    assert not put(store, "a", b"first")
    assert read(store, "a") == b"first"


def test_sixteen_threads_on_one_key_create_it_once(store: ObjectStore) -> None:
    for round in range(5):
        all_at_once = threading.Barrier(16)

        def race(content: bytes, all_at_once: threading.Barrier = all_at_once, round: int = round) -> bool:
            def open() -> BinaryIO:
                all_at_once.wait(timeout=30)
                return io.BytesIO(content)

            return store.put(f"new/{round}/key", open, len(content), hashlib.sha256(content).hexdigest())

        contents = [bytes([number]) * 100 for number in range(16)]
        with ThreadPoolExecutor(16) as threads:
            created = list(threads.map(race, contents))
        assert created.count(True) == 1
        assert read(store, f"new/{round}/key") == contents[created.index(True)]


@pytest.mark.parametrize(("start", "expected"), [(0, b"0123456789"), (3, b"3456789"), (9, b"9"), (10, b""), (99, b"")])
def test_get_begins_at_the_offset(store: ObjectStore, start: int, expected: bytes) -> None:
    put(store, "digits", b"0123456789")
    assert read(store, "digits", start) == expected


def test_a_stream_can_be_read_in_pieces(store: ObjectStore) -> None:
    put(store, "digits", b"0123456789")
    with store.get("digits") as stream:
        assert [stream.read(4), stream.read(4), stream.read(4), stream.read(4)] == [b"0123", b"4567", b"89", b""]


@pytest.mark.parametrize("key", ["absent", "here/absent", "file/below"])
def test_get_of_an_absent_key_is_object_not_found(store: ObjectStore, key: str) -> None:
    put(store, "here/present")
    put(store, "file")
    with pytest.raises(ObjectNotFound, match=key), store.get(key):
        pass


def test_a_directory_of_keys_is_no_object(store: ObjectStore) -> None:
    put(store, "a/b/c")
    assert store.stat(["a", "a/b", "a/b/c"]) == {"a/b/c": 1}
    with pytest.raises(ObjectNotFound), store.get("a/b"):
        pass
    store.delete(["a/b", "a"])
    assert keys(store.list("")) == ["a/b/c"]


def test_stat_gives_the_sizes_of_those_that_exist(store: ObjectStore) -> None:
    for number in range(50):
        put(store, f"k/{number}", b"x" * number)
    asked = [f"k/{number}" for number in range(2000)]
    assert store.stat(asked) == {f"k/{number}": number for number in range(50)}
    assert store.stat([]) == {}


TRICKY = ["A", "a-b", "a.b", "a/b", "a/b-c", "a0", "aa-/x", "aa/x", "b/b-c/d", "b/b.c", "b/b/c", "b/b0", ".h/.i"]
TRICKY += [".hidden", "z/ ", "z/e", "z/~", "z/é", "z/\uff5e", "z/\U0001f600", "c d/e f", "c%20d/e", "c+d", "c#d"]
TRICKY += ["results/j/1/1.result.json", "results/j/1/1.stdout.txt", "results/j/1/1/o", "results/j/10/1.result.json"]
TRICKY += ["results/j-2/1/1.stdout.txt"]
TRICKY.sort(key=str.encode)


def test_a_listing_is_in_byte_order_of_whole_keys(store: ObjectStore) -> None:
    for key in reversed(TRICKY):
        put(store, key)
    assert keys(store.list("")) == TRICKY


PIECES = st.one_of(
    st.sampled_from([key[:end] for key in TRICKY for end in range(len(key) + 1)]),
    st.text(alphabet="abz-./0~é \U0001f600", max_size=6),
)


@pytest.fixture(params=NAMES, scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    store = BACKENDS[request.param](request, tmp_path_factory.mktemp("filled"))
    for key in TRICKY:
        put(store, key)
    return store


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=PIECES, after=PIECES)
def test_a_listing_honours_any_prefix_and_any_after(filled: ObjectStore, prefix: str, after: str) -> None:
    expected = [key for key in TRICKY if key.startswith(prefix) and key.encode() > after.encode()]
    assert keys(filled.list(prefix, after)) == expected


@pytest.mark.parametrize("prefix", ["../", "/", "a//", "./", "\0", "a/\0", "x" * 2000 + "/", "\ud800", "tmp/", "tmp"])
def test_a_prefix_that_no_key_can_have_lists_nothing(filled: ObjectStore, prefix: str) -> None:
    assert keys(filled.list(prefix)) == []


def test_1200_keys_are_listed_whole_and_in_pages(store: ObjectStore) -> None:
    expected = [f"many/{number // 100:03d}/{number:05d}" for number in range(1200)]  # services answer a thousand
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda key: put(store, key, b"1"), expected))
    assert keys(store.list("many/")) == expected
    paged: list[str] = []
    while page := keys(store.list("many/", paged[-1] if paged else ""))[:500]:
        paged += page
    assert paged == expected
    store.delete(expected)
    assert keys(store.list("")) == []


@pytest.mark.parametrize("content", [b"", b"12345678", b"1234567890", b"x" * 3_000_000], ids=len)
def test_a_source_that_lies_about_its_length_is_refused(store: ObjectStore, content: bytes) -> None:
    with pytest.raises(IntegrityError, match="liar"):
        store.put("d/liar", lambda: io.BytesIO(content), 9, hashlib.sha256(content[:9]).hexdigest())
    assert store.stat(["d/liar"]) == {}
    assert keys(store.list("")) == []


def test_a_source_with_another_hash_is_refused_and_a_right_one_then_taken(store: ObjectStore) -> None:
    with pytest.raises(IntegrityError, match="wrong"):
        store.put("wrong", lambda: io.BytesIO(b"abc"), 3, hashlib.sha256(b"abd").hexdigest())
    assert store.stat(["wrong"]) == {}
    assert put(store, "wrong", b"abd")


def test_an_endless_source_is_refused_soon(store: ObjectStore) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
            Endless.given += len(buffer)
            assert Endless.given < 10**8
            return len(buffer)

    with pytest.raises(IntegrityError):
        store.put("endless", lambda: io.BufferedReader(Endless()), 1000, "0" * 64)


def test_a_source_is_opened_again_for_another_try(store: ObjectStore) -> None:
    opened: list[int] = []

    def open() -> BinaryIO:
        opened.append(1)
        if len(opened) == 1:
            raise OSError("the disk of the source is slow today")
        return io.BytesIO(b"abc")

    with pytest.raises(OSError, match="slow today"):
        store.put("again", open, 3, hashlib.sha256(b"abc").hexdigest())
    assert keys(store.list("")) == []
    assert store.put("again", open, 3, hashlib.sha256(b"abc").hexdigest())
    assert len(opened) == 2


def test_nobody_sees_an_object_before_it_is_whole(store: ObjectStore) -> None:
    content = b"x" * 5_000_000
    seen: list[object] = []

    class Watched(io.RawIOBase):
        rest = content

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
            look()
            piece, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
            buffer[: len(piece)] = piece
            return len(piece)

    def look() -> None:
        seen.append((dict(store.stat(["d/half"])), keys(store.list(""))))
        with pytest.raises(ObjectNotFound), store.get("d/half"):
            pass

    assert store.put(
        "d/half", lambda: io.BufferedReader(Watched(), 2**20), len(content), hashlib.sha256(content).hexdigest()
    )
    assert len(seen) >= 2
    assert all(look == ({}, []) for look in seen)
    assert read(store, "d/half") == content


def test_readers_beside_writers_see_whole_objects_only(store: ObjectStore) -> None:
    content = b"y" * 300_000
    done = threading.Event()

    def watch() -> set[int]:
        lengths = set()
        while not done.is_set():
            for stored in store.list("w/"):
                lengths.add(stored.size)
                lengths.add(len(read(store, stored.key)))
        return lengths

    with ThreadPoolExecutor(2) as threads:
        watching = threads.submit(watch)
        for number in range(40):
            put(store, f"w/{number}", content)
        done.set()
        assert watching.result() <= {len(content)}


def test_a_stream_that_is_open_survives_the_deletion(store: ObjectStore) -> None:
    put(store, "a", b"0123456789")
    with store.get("a") as stream:
        store.delete(["a"])
        assert stream.read() == b"0123456789"


def test_absent_keys_are_no_error_to_delete(store: ObjectStore) -> None:
    put(store, "d/there")
    put(store, "d/stays")
    store.delete(["d/there", "d/absent", "absent/too", "d/there/below"])
    store.delete([])
    assert keys(store.list("")) == ["d/stays"]


def test_a_deleted_key_can_be_created_again(store: ObjectStore) -> None:
    assert put(store, "a/b/c", b"one")
    store.delete(["a/b/c"])
    assert put(store, "a/b/c", b"two")
    assert read(store, "a/b/c") == b"two"


def test_what_was_put_in_a_batch_stands_when_the_block_has_ended(store: ObjectStore) -> None:
    put(store, "b/old", b"old")
    with store.batch() as batch:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda number: put(batch, f"b/{number}", b"new"), range(100)))
        assert not put(batch, "b/old", b"old")
    assert store.stat([f"b/{number}" for number in range(100)]) == {f"b/{number}": 3 for number in range(100)}
    assert read(store, "b/old") == b"old"


def test_an_object_put_twice_in_a_batch_or_by_somebody_else_meanwhile_stands_once(store: ObjectStore) -> None:
    with store.batch() as batch:
        put(batch, "b/one", b"first")
        put(batch, "b/one", b"first")
        put(batch, "b/two", b"batch")
        put(store, "b/two", b"batch")
    assert [(stored.key, stored.size) for stored in store.list("b/")] == [("b/one", 5), ("b/two", 5)]


ODD_NAMES = ["with space", " lead/trail ", "100%", "%2e%2e/x", "a+b", "a#b?c", ".hidden", "...", "a/..b", "-rf", "~"]
ODD_NAMES += ["$HOME", "ä/ö/ü", "a\u0308", "日本語", "\U0001f600", "quote'\"", "back\\slash", "*", "n" * 200, "é" * 100]
ODD_NAMES += ["tmpx/y", "a/tmp/b"]


@pytest.mark.parametrize("key", ODD_NAMES)
def test_odd_names_are_names(store: ObjectStore, key: str) -> None:
    assert put(store, key, key.encode())
    assert read(store, key) == key.encode()
    assert store.stat([key]) == {key: len(key.encode())}
    assert keys(store.list(key)) == [key]
    store.delete([key])
    assert keys(store.list("")) == []


BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a/./b", "a\nb", "a\0b", "\x7f"]
BAD_KEYS += ["\ud800", "tmp", "tmp/x", "x" * 1025, "é" * 513]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_what_is_no_key_is_a_bug_of_the_caller(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        put(store, key)
    with pytest.raises(ValueError, match="key"):
        store.get(key)
    with pytest.raises(ValueError, match="key"):
        store.stat(["fine", key])
    with pytest.raises(ValueError, match="key"):
        store.delete([key])
    assert keys(store.list("")) == []


@pytest.mark.parametrize(("key", "words"), [("a/b/c/d", "below"), ("a", "directory of another key")])
def test_a_key_below_another_key_is_refused_or_harms_nothing(store: ObjectStore, key: str, words: str) -> None:
    put(store, "a/b", b"first")
    try:
        put(store, key, b"second")
    except ValueError as refusal:
        assert words in str(refusal)
        assert keys(store.list("")) == ["a/b"]
    else:
        assert keys(store.list("")) == sorted(["a/b", key])
        assert read(store, key) == b"second"
        store.delete([key])
    assert read(store, "a/b") == b"first"


@pytest.mark.parametrize("name", ["local", "memory"])
def test_a_key_below_another_key_is_refused_where_there_are_directories_and_in_the_twin(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = BACKENDS[name](request, tmp_path)
    put(store, "a/b")
    with pytest.raises(ValueError, match="below"):
        put(store, "a/b/c/d")
    with pytest.raises(ValueError, match="directory of another key"):
        put(store, "a")


def test_a_directory_goes_with_its_last_object(store: ObjectStore) -> None:
    put(store, "a/b/c")
    store.delete(["a/b/c"])
    assert put(store, "a", b"now a file")


def test_objects_come_and_go_in_one_directory_without_an_error(store: ObjectStore) -> None:
    def come_and_go(number: int) -> None:
        for _ in range(40):
            assert put(store, f"busy/place/{number}")
            store.delete([f"busy/place/{number}"])

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(come_and_go, number) for number in range(4)]:
            done.result()
    assert keys(store.list("")) == []


def test_the_url_opens_the_same_store(tmp_path: Path) -> None:
    for store in (LocalStore(tmp_path / "a b#%41é"), open_store("memory:")):
        put(store, "same/one", b"1")
        assert read(open_store(store.url), "same/one") == b"1"
        assert open_store(store.url).url == store.url
        assert store.reach is Reach.HOST
