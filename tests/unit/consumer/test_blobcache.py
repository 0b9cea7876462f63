"""The cache gives exactly the right bytes, keeps what is used, and does not grow for ever."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.errors import IntegrityError, ObjectNotFound
from kubeq.store.blobs import Blobs
from kubeq.store.local import LocalStore
from kubeq.store.memory import MemoryStore
from kubeq_consumer.blobcache import LEFTOVER_AGE_S, BlobCache


class Counting(Blobs):
    """Blobs that count their downloads."""

    downloads = 0

    def download(self, digest: Digest, destination: Path) -> None:
        self.downloads += 1
        super().download(digest, destination)


@pytest.fixture
def blobs() -> Counting:
    return Counting(MemoryStore())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def read(cache: BlobCache, digest: Digest) -> bytes:
    with cache.opened(digest) as file:
        return file.read()


def files(root: Path) -> dict[str, Path]:
    """What is cached of the blobs that `put` made, by letter; without reading it, which would be a use."""
    names = {str(Digest.of(letter.encode() * 1000)): letter for letter in "abcdefg"}
    return {names[path.name]: path for path in root.glob("*/*") if path.name in names}


def put(blobs: Blobs, letter: str) -> Digest:
    return blobs.put_bytes(letter.encode() * 1000)


def test_a_blob_is_fetched_once_by_however_many_at_a_time(blobs: Counting, root: Path) -> None:
    cache, digest = BlobCache(root, blobs), put(blobs, "a")
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: read(cache, digest), range(50))) == {b"a" * 1000}
    assert blobs.downloads == 1


def test_a_corrupted_cached_blob_is_fetched_again(blobs: Counting, root: Path) -> None:
    cache, digest = BlobCache(root, blobs), blobs.put_bytes(b"precious")
    assert read(cache, digest) == b"precious"
    (path,) = root.glob("*/*")
    path.chmod(0o600)
    path.write_bytes(b"poisoned")
    assert read(BlobCache(root, blobs), digest) == b"precious"
    assert read(cache, digest) == b"precious"
    assert blobs.downloads == 2


def test_what_another_agent_has_cached_is_checked_by_its_hash_and_taken(blobs: Counting, root: Path) -> None:
    digest = put(blobs, "a")
    read(BlobCache(root, blobs), digest)
    assert read(BlobCache(root, blobs), digest) == b"a" * 1000
    assert blobs.downloads == 1


def test_an_input_that_the_store_lacks_is_not_found(blobs: Counting, root: Path) -> None:
    with pytest.raises(ObjectNotFound):
        read(BlobCache(root, blobs), Digest.of(b"never stored"))


def test_an_input_that_the_store_holds_wrongly_is_refused(tmp_path: Path, root: Path) -> None:
    blobs = Blobs(LocalStore(tmp_path / "store"))
    digest = blobs.put_bytes(b"good")
    (stored,) = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and digest.sha256 in path.name]
    stored.chmod(0o600)
    stored.write_bytes(b"evil")
    with pytest.raises(IntegrityError):
        read(BlobCache(root, blobs), digest)


def test_what_was_used_least_recently_goes_when_the_cache_outgrows_its_bound(blobs: Counting, root: Path) -> None:
    cache = BlobCache(root, blobs, limit=3500)
    digests = {letter: put(blobs, letter) for letter in "abcd"}
    for age, letter in enumerate("abc"):
        read(cache, digests[letter])
        path = files(root)[letter]
        os.utime(path, ns=(time.time_ns() - (10 - age) * 10**9, path.stat().st_mtime_ns))
    read(cache, digests["a"])
    read(cache, digests["d"])
    assert set(files(root)) == {"a", "c", "d"}
    assert read(cache, digests["a"]) == b"a" * 1000
    assert blobs.downloads == 4


def test_what_is_in_use_is_not_evicted_whatever_comes(blobs: Counting, root: Path) -> None:
    cache = BlobCache(root, blobs, limit=1500)
    with cache.opened(put(blobs, "a")) as file:
        for letter in "bcd":
            read(cache, put(blobs, letter))
            assert "a" in files(root)
        assert file.read() == b"a" * 1000
    assert set(files(root)) == {"a", "d"}


def test_a_file_that_another_agent_evicts_while_it_is_read_keeps_its_bytes(blobs: Counting, root: Path) -> None:
    digest = put(blobs, "a")
    with BlobCache(root, blobs).opened(digest) as file:
        other = BlobCache(root, blobs, limit=100)
        read(other, put(blobs, "b"))
        assert set(files(root)) == {"b"}
        assert file.read() == b"a" * 1000
    assert read(BlobCache(root, blobs), digest) == b"a" * 1000


def test_what_other_agents_bring_counts_too(blobs: Counting, root: Path) -> None:
    mine, theirs = BlobCache(root, blobs, limit=5500), BlobCache(root, blobs)
    read(mine, put(blobs, "a"))
    for letter in "bcde":
        read(theirs, put(blobs, letter))
    for letter in "fg":
        read(mine, put(blobs, letter))
    assert sum(path.stat().st_size for path in files(root).values()) <= 5500


def test_the_books_are_no_larger_than_the_cache(blobs: Counting, root: Path) -> None:
    cache = BlobCache(root, blobs, limit=3000)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: read(cache, blobs.put_bytes(b"%04d" % number * 250)), range(100)))
    assert len(cache._trusted) <= 12
    assert cache._uses == {}


def test_a_dead_agents_half_a_download_is_removed_and_a_live_ones_is_not(blobs: Counting, root: Path) -> None:
    (root / "aa").mkdir(parents=True)
    for name, age_s in ((".kubeq-1-dead", LEFTOVER_AGE_S + 60), (".kubeq-2-live", 60.0)):
        (root / "aa" / name).write_bytes(b"half")
        os.utime(root / "aa" / name, (time.time() - age_s,) * 2)
    read(BlobCache(root, blobs), put(blobs, "a"))
    assert [path.name for path in (root / "aa").iterdir() if path.name.startswith(".")] == [".kubeq-2-live"]


def test_an_open_input_is_handed_to_several_at_once(blobs: Counting, root: Path) -> None:
    cache, digest = BlobCache(root, blobs), put(blobs, "a")
    with ExitStack() as stack:
        opened = [stack.enter_context(cache.opened(digest)) for _ in range(3)]
        assert [file.read() for file in opened] == [b"a" * 1000] * 3
