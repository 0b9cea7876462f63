"""Content addressing: nothing wrong gets in unseen, nothing wrong gets out."""

from __future__ import annotations

import io
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest
from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound, UsageError
from kubeq.store.base import Stored
from kubeq.store.blobs import DOCUMENT_LIMIT, Blobs, hash_file
from kubeq.store.local import LocalStore
from kubeq.store.memory import MemoryStore


class Counting(MemoryStore):
    """A memory store that writes down what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        self.asked.append("put")
        return super().put(key, open, size, sha256)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        self.asked.append("get")
        return super().get(key, start)

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.asked.append("stat")
        return super().stat(keys)

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        self.asked.append("list")
        return super().list(prefix, after)


def key(digest: Digest) -> str:
    return f"blobs/{digest.sha256[:2]}/{digest.sha256}-{digest.size}"


def stand(store: MemoryStore | LocalStore, digest: Digest, content: bytes) -> None:
    """Other bytes under the name of a blob, as a broken disk or another program would leave them."""
    other = Digest.of(content)
    assert store.put(key(digest), lambda: io.BytesIO(content), other.size, other.sha256)


def sources(*contents: bytes) -> dict[Digest, Callable[[], BinaryIO]]:
    return {Digest.of(content): partial(io.BytesIO, content) for content in contents}


def test_a_blob_stands_under_its_digest_and_is_read_back() -> None:
    store = MemoryStore()
    digest = Blobs(store).put_bytes(b"hello")
    assert digest == Digest.of(b"hello")
    assert [stored.key for stored in store.list("")] == [key(digest)]
    assert Blobs(store).read(digest) == b"hello"
    assert Blobs(store).put_bytes(b"hello") == digest


def test_one_question_tells_which_blobs_are_missing() -> None:
    store = Counting()
    there = [Blobs(store).put_bytes(bytes([number])) for number in range(200)]
    absent = {Digest.of(b"absent %d" % number) for number in range(200)}
    store.asked.clear()
    assert Blobs(store).missing([*there, *absent]) == absent
    assert store.asked == ["stat"]


def test_a_blob_of_the_wrong_size_counts_as_missing() -> None:
    store = MemoryStore()
    digest = Digest.of(b"hello")
    stand(store, digest, b"hell")
    assert Blobs(store).missing([digest]) == {digest}


@pytest.mark.parametrize("content", [b"hallo", b"hell", b"hello!", b""])
def test_a_blob_with_wrong_bytes_is_refused_naming_it(content: bytes, tmp_path: Path) -> None:
    store = MemoryStore()
    digest = Digest.of(b"hello")
    stand(store, digest, content)
    with pytest.raises(IntegrityError, match=digest.sha256) as caught:
        Blobs(store).read(digest)
    assert caught.value.hint is not None
    assert key(digest) in caught.value.hint
    with pytest.raises(IntegrityError, match=digest.sha256):
        Blobs(store).download(digest, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_bit_that_flipped_on_the_disk_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    digest = Blobs(store).put_bytes(bytes(100_000))
    file = tmp_path / "store" / key(digest)
    file.chmod(0o600)
    with file.open("r+b") as stream:
        stream.seek(77_777)
        stream.write(b"\1")
    with pytest.raises(IntegrityError, match=digest.sha256):
        Blobs(store).read(digest)
    with pytest.raises(IntegrityError, match=digest.sha256):
        Blobs(store).download(digest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_absent_blob_is_object_not_found(tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match=Digest.of(b"no").sha256):
        Blobs(MemoryStore()).read(Digest.of(b"no"))
    with pytest.raises(ObjectNotFound):
        Blobs(MemoryStore()).download(Digest.of(b"no"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_document_beyond_the_limit_is_neither_written_nor_asked_for() -> None:
    store = Counting()
    with pytest.raises(UsageError, match="too large"):
        Blobs(store).put_bytes(bytes(DOCUMENT_LIMIT + 1))
    with pytest.raises(IntegrityError, match="larger"):
        Blobs(store).read(Digest("0" * 64, DOCUMENT_LIMIT + 1))
    assert store.asked == []


def test_a_manifest_is_stored_once_and_read_back() -> None:
    blobs = Blobs(MemoryStore())
    manifest = Manifest.of([Entry("b/c", Digest.of(b"1"), True), Entry("a", Digest.of(b"2"))])
    digest = blobs.put_bytes(manifest.encode())
    assert blobs.put_bytes(manifest.encode()) == digest
    assert blobs.read_manifest(digest) == manifest
    with pytest.raises(IntegrityError):
        blobs.read_manifest(blobs.put_bytes(b'{"schema":1,"files":[["../x","0",1,0]]}'))


def test_an_upload_stores_all_of_many_blobs(tmp_path: Path) -> None:
    contents = [os.urandom(number * 37) for number in range(100)]
    blobs = Blobs(LocalStore(tmp_path))
    blobs.upload(sources(*contents), threads=8)
    assert [blobs.read(Digest.of(content)) for content in contents] == contents


def test_an_upload_may_be_repeated_and_leaves_what_stands_alone() -> None:
    store = Counting()
    Blobs(store).upload(sources(b"one", b"two"))
    assert store.asked == ["put", "put"]
    Blobs(store).upload(sources(b"one", b"two", b"three"))
    assert store.asked == ["put"] * 5 + ["stat"]
    Blobs(store).upload({})


def test_an_upload_onto_a_blob_of_another_size_names_it_and_how_to_mend_it() -> None:
    store = MemoryStore()
    digest = Digest.of(b"hello")
    stand(store, digest, b"hell")
    for attempt in (lambda: Blobs(store).upload(sources(b"fine", b"hello")), lambda: Blobs(store).put_bytes(b"hello")):
        with pytest.raises(IntegrityError, match=digest.sha256) as caught:
            attempt()
        assert caught.value.hint is not None
        assert key(digest) in caught.value.hint


def test_progress_adds_up_to_the_sizes_whatever_stood_already_and_is_never_told_twice_at_once() -> None:
    contents = [os.urandom(number * 9973) for number in range(50)]
    store = MemoryStore()
    Blobs(store).upload(sources(*contents[:10]))
    told: list[int] = []
    busy = threading.Lock()

    def progress(count: int) -> None:
        assert busy.acquire(blocking=False)
        told.append(count)
        busy.release()

    Blobs(store).upload(sources(*contents), progress=progress, threads=8)
    assert sum(told) == sum(map(len, contents))
    assert min(told) > 0


def test_progress_counts_the_bytes_of_a_second_try_once() -> None:
    class ReadsTwice(MemoryStore):
        def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
            with open() as source:
                source.read(size // 2)
            return super().put(key, open, size, sha256)

    told: list[int] = []
    Blobs(ReadsTwice()).upload(sources(bytes(1_000_000)), progress=told.append)
    assert sum(told) == 1_000_000


def test_a_source_that_vanished_is_named(tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    for progress in (None, lambda count: None):
        with pytest.raises(UsageError, match=r"input\.txt could not be read.*No such file"):
            Blobs(MemoryStore()).upload({Digest.of(b"1"): lambda: file.open("rb")}, progress=progress)


def test_a_source_that_changed_since_it_was_hashed_is_refused_and_not_stored() -> None:
    store = MemoryStore()
    with pytest.raises(IntegrityError):
        Blobs(store).upload({Digest.of(b"before"): lambda: io.BytesIO(b"after!")})
    assert list(store.list("")) == []


def test_the_first_error_ends_an_upload_early() -> None:
    opened: list[int] = []

    def failing() -> BinaryIO:
        opened.append(1)
        raise FileNotFoundError(2, "No such file", "gone")

    many = {Digest.of(b"%d" % number): failing for number in range(500)}
    with pytest.raises(UsageError, match="gone"):
        Blobs(MemoryStore()).upload(many, threads=4)
    assert len(opened) < 500


def test_a_download_is_verified_and_replaces_what_stood_there(tmp_path: Path) -> None:
    blobs = Blobs(MemoryStore())
    content = os.urandom(3_000_000)
    digest = blobs.put_bytes(content)
    (tmp_path / "out").write_bytes(b"old")
    blobs.download(digest, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_download_that_breaks_leaves_what_stood_there(tmp_path: Path) -> None:
    store = MemoryStore()
    digest = Digest.of(b"hello")
    stand(store, digest, b"hallo")
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(IntegrityError):
        Blobs(store).download(digest, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_download_into_a_place_that_cannot_be_written_names_it(tmp_path: Path) -> None:
    blobs = Blobs(MemoryStore())
    digest = blobs.put_bytes(b"hello")
    with pytest.raises(BackendError, match="missing/out"):
        blobs.download(digest, tmp_path / "missing" / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(BackendError, match="out: Is a directory"):
        blobs.download(digest, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(AccessDenied, match="new"):
            blobs.download(digest, tmp_path / "new")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_download_onto_a_full_disk_is_told_with_the_bytes_wanted_and_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(MemoryStore())
    digest = blobs.put_bytes(bytes(3_000_000))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(BackendError, match=r"No space left on device \(3000000 bytes were wanted\)") as caught:
            blobs.download(digest, tmp_path / "out")
        assert not caught.value.transient
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 9 * 2**20])
def test_a_file_is_hashed_whole(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == Digest.of(content)


def test_what_is_not_a_readable_regular_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match=r"absent cannot be read: No such file"):
        hash_file(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"fifo is not a regular file"):
        hash_file(tmp_path / "fifo")
    with pytest.raises(UsageError, match=str(tmp_path)):
        hash_file(tmp_path)


def hash_while(change: Callable[[], object], path: Path) -> None:
    """Hash a file large enough for `change` to happen many times meanwhile."""
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    started, done = threading.Event(), threading.Event()

    def keep_changing() -> None:
        while not done.is_set():
            change()
            started.set()

    changing = threading.Thread(target=keep_changing)
    changing.start()
    started.wait()
    try:
        hash_file(path)
    finally:
        done.set()
        changing.join()


def test_a_file_that_grows_while_it_is_hashed_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "growing"

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(UsageError, match="growing changed"):
        hash_while(grow, path)


def test_a_file_that_is_replaced_while_it_is_hashed_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "replaced"

    def replace() -> None:
        (tmp_path / "new").write_bytes(b"other")
        (tmp_path / "new").replace(path)

    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    with pytest.raises(UsageError, match="replaced changed"):
        hash_while_once(replace, path)


def hash_while_once(change: Callable[[], object], path: Path) -> None:
    """Hash `path` and make the change when its reader has opened it."""
    done = threading.Event()

    def when_open() -> None:
        while not done.is_set():
            if path in opened_by_us():
                change()
                return

    changing = threading.Thread(target=when_open)
    changing.start()
    try:
        hash_file(path)
    finally:
        done.set()
        changing.join()


def opened_by_us() -> Iterator[Path]:
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            yield descriptor.readlink()
        except OSError:
            continue
