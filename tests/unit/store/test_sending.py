"""What is sent to a bucket: never more of it in memory than a store may have, and nothing that is not what was said."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kubeq.core.digest import Digest
from kubeq.errors import BackendError, IntegrityError
from kubeq.store.gcs import GcsStore
from kubeq.store.gcs_bucket import Bucket as GcsBucket
from kubeq.store.patience import Patience
from kubeq.store.s3 import S3Store
from kubeq.store.s3_bucket import Bucket as S3Bucket
from kubeq.store.sending import AT_ONCE, SMALL, Sender

CONTENT = bytes(range(250))


class Crowd:
    """Counts who is inside at once; nobody leaves before there are as many as there may be, and a little longer."""

    def __init__(self) -> None:
        self.most = 0
        self._inside = 0
        self._lock, self._plenty = threading.Lock(), threading.Event()

    def come_and_go(self) -> bool:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            if self._inside == AT_ONCE:
                self._plenty.set()
        assert self._plenty.wait(30)
        time.sleep(0.2)
        with self._lock:
            self._inside -= 1
        return True


def s3(crowd: Crowd) -> S3Store:
    class Bucket(S3Bucket):
        def create(self, name: str, content: bytes, sha256: bytes) -> bool:
            return crowd.come_and_go()

    return S3Store(Bucket("bucket"))


def gcs(crowd: Crowd) -> GcsStore:
    class Bucket(GcsBucket):
        def create(self, name: str, content: bytes) -> bool:
            return crowd.come_and_go()

    return GcsStore(Bucket("bucket"))


@pytest.mark.parametrize("store_of", [s3, gcs])
def test_only_so_many_objects_are_in_memory_however_many_threads_put(
    store_of: Callable[[Crowd], S3Store | GcsStore],
) -> None:
    crowd, content = Crowd(), bytes(SMALL + 1)
    store, digest = store_of(crowd), Digest.of(content)

    def put(number: int) -> bool:
        return store.put(f"k/{number}", lambda: io.BytesIO(content), digest.size, digest.sha256)

    with ThreadPoolExecutor(AT_ONCE + 8) as threads:
        assert all(threads.map(put, range(AT_ONCE + 8)))
    assert crowd.most == AT_ONCE


def sender() -> Sender:
    return Sender(Patience(sleep=lambda _: None))


def test_parts_come_back_in_their_order() -> None:
    sent = sender().in_parts("k", io.BytesIO(CONTENT), Digest.of(CONTENT), lambda *part: part, 100)
    assert sent == [(1, CONTENT[:100]), (2, CONTENT[100:200]), (3, CONTENT[200:])]


def test_a_part_that_fails_for_a_moment_is_sent_again_by_itself() -> None:
    tried: list[int] = []

    def send(number: int, content: bytes) -> int:
        tried.append(number)
        if tried.count(2) == 1 and number == 2:
            raise BackendError("busy", transient=True)
        return number

    assert sender().in_parts("k", io.BytesIO(CONTENT), Digest.of(CONTENT), send, 100) == [1, 2, 3]
    assert sorted(tried) == [1, 2, 2, 3]


@pytest.mark.parametrize("given", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"x"], ids=["less", "more", "other"])
def test_a_source_that_gives_something_else_is_refused_and_every_slot_comes_back(given: bytes) -> None:
    one, digest = sender(), Digest.of(CONTENT)
    for _ in range(AT_ONCE + 1):
        with pytest.raises(IntegrityError, match="what was to be stored as k is not the announced 250 bytes"):
            one.in_parts("k", io.BytesIO(given), digest, lambda *part: part, 100)
        with pytest.raises(IntegrityError), one.whole("k", lambda: io.BytesIO(given), digest):
            raise AssertionError("the block was entered")
    assert len(one.in_parts("k", io.BytesIO(CONTENT), digest, lambda *part: part, 100)) == 3


def test_after_a_part_that_is_refused_no_other_is_tried_again() -> None:
    begun, refused, tried = threading.Event(), threading.Event(), list[int]()

    def send(number: int, content: bytes) -> int:
        tried.append(number)
        if number == 1:
            assert begun.wait(30)
            refused.set()
            raise BackendError("you may not write there")
        begun.set()
        assert refused.wait(30)
        time.sleep(0.2)
        raise BackendError("busy", transient=True)

    with pytest.raises(BackendError, match="you may not write there"):
        sender().in_parts("k", io.BytesIO(CONTENT), Digest.of(CONTENT), send, 100)
    assert len(tried) == len(set(tried))
