"""Inputs by URL on a node: fetched once, kept like all others, and never taken for what they are not."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pytest

from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest, Remote
from kubeq.core.model import JobId, TaskId
from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound, UsageError
from kubeq.store.blobs import Blobs
from kubeq.store.memory import MemoryStore
from kubeq.store.outputs import Outputs
from kubeq.store.result_source import ResultSite, result_url
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.building import opener_of
from kubeq_consumer.remotes import Remotes
from kubeq_consumer.staging import collect, stage_in

CONTENT = b"0123456789" * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()
PINNED = Remote("in/data", "gs://b/o", "generation:17", len(CONTENT))
SUMMED = Remote("in/data", "https://h/o?signature=secret", f"sha256:{SUM}", len(CONTENT))


class Breaking(io.BytesIO):
    """Ends in an error."""

    def readinto1(self, buffer: object, /) -> int:
        raise BackendError("gs://b/o cannot be read: reset by peer", transient=True)


class Source:
    """An opener that gives what the test wants, and counts."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.give: Callable[[], BinaryIO] = lambda: io.BytesIO(content)
        self.opened: list[str] = []

    def open(self, remote: Remote, start: int = 0) -> AbstractContextManager[BinaryIO]:
        self.opened.append(remote.url)
        return self.give()


class Rig:
    def __init__(self, root: Path, limit: int | None = None) -> None:
        self.root = root / "cache"
        self.source = Source()
        self.blobs = Blobs(MemoryStore())
        self.cache = BlobCache(self.root, self.blobs, limit)
        self.remotes = self.another()

    def another(self) -> Remotes:
        return Remotes(self.root, BlobCache(self.root, self.blobs), lambda url: self.source)

    def read(self, remote: Remote = PINNED) -> bytes:
        with self.remotes.opened(remote) as (file, digest):
            content = file.read()
            assert Digest.of(content) == digest
            return content

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.mark.parametrize("remote", [PINNED, SUMMED], ids=["generation", "sha256"])
def test_a_source_is_fetched_once_for_all_tasks_and_agents_of_a_node(rig: Rig, remote: Remote) -> None:
    assert [rig.read(remote), rig.read(remote)] == [CONTENT, CONTENT]
    rig.remotes = rig.another()
    assert rig.read(remote) == CONTENT
    assert len(rig.source.opened) == 1


def test_many_tasks_at_once_fetch_it_once(rig: Rig) -> None:
    together = threading.Barrier(8)

    def read(_: int) -> bytes:
        together.wait(timeout=30)
        return rig.read()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(8))) == [CONTENT] * 8
    assert len(rig.source.opened) == 1


def test_another_pin_is_another_source(rig: Rig) -> None:
    rig.read()
    rig.read(Remote("in/data", PINNED.url, "generation:18", PINNED.size))
    assert len(rig.source.opened) == 2


def test_what_was_damaged_or_evicted_is_fetched_again(rig: Rig) -> None:
    rig.read()
    (cached,) = (path for path in rig.files() if path.stat().st_size == len(CONTENT))
    cached.chmod(0o600)
    cached.write_bytes(CONTENT[:-1] + b"?")
    rig.remotes = rig.another()
    assert rig.read() == CONTENT
    cached.unlink()
    assert rig.read() == CONTENT
    assert len(rig.source.opened) == 3


def test_other_bytes_under_the_same_pin_are_refused(rig: Rig) -> None:
    rig.read()
    (cached,) = (path for path in rig.files() if path.stat().st_size == len(CONTENT))
    cached.unlink()
    rig.source = Source(CONTENT[:-1] + b"?")
    rig.remotes = rig.another()
    with pytest.raises(IntegrityError, match="is generation:17 still, but gave"):
        rig.read()


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b""], ids=len)
def test_another_length_is_a_change(rig: Rig, content: bytes) -> None:
    rig.source = Source(content)
    rig.remotes = rig.another()
    with pytest.raises(IntegrityError, match=rf"in/data has changed .* bytes instead of {len(CONTENT)}"):
        rig.read()
    assert rig.files() == []


def test_another_checksum_is_a_change_that_names_both(rig: Rig) -> None:
    other = CONTENT[:-1] + b"?"
    rig.source = Source(other)
    rig.remotes = rig.another()
    with pytest.raises(IntegrityError) as caught:
        rig.read(SUMMED)
    assert caught.value.message == (
        f"the input in/data has changed since the job was submitted: https://h/o was sha256:{SUM} and is "
        f"sha256:{hashlib.sha256(other).hexdigest()} now"
    )
    assert rig.files() == []


def test_a_source_out_of_reach_is_the_tasks_trouble_and_leaves_nothing(rig: Rig) -> None:
    rig.source.give = lambda: Breaking(CONTENT)
    with pytest.raises(UsageError, match="the input in/data cannot be fetched: gs://b/o cannot be read: reset by peer"):
        rig.read()
    assert rig.files() == []
    rig.source.give = lambda: io.BytesIO(CONTENT)
    assert rig.read() == CONTENT


def test_the_nodes_own_store_out_of_reach_is_the_nodes_trouble_also_for_another_tasks_output(rig: Rig) -> None:
    rig.source.give = lambda: Breaking(CONTENT)
    with pytest.raises(BackendError, match="reset by peer") as caught:
        rig.read(Remote("in/data", result_url(TaskId(JobId("job-1"), 3), 2, "out/p"), f"sha256:{SUM}", len(CONTENT)))
    assert caught.value.transient
    assert rig.files() == []


def test_a_source_that_refuses_says_why(rig: Rig) -> None:
    def refuse() -> BinaryIO:
        raise AccessDenied("could not read o in gs://b: the permission is not granted", hint="ask for it")

    rig.source.give = refuse
    with pytest.raises(UsageError, match="the permission is not granted") as caught:
        rig.read()
    assert caught.value.hint == "ask for it"


def test_what_is_gone_is_object_not_found(rig: Rig) -> None:
    def gone() -> BinaryIO:
        raise ObjectNotFound("the input in/data is gone")

    rig.source.give = gone
    with pytest.raises(ObjectNotFound):
        rig.read()


def test_a_pin_that_is_no_checksum_is_refused(rig: Rig) -> None:
    with pytest.raises(IntegrityError, match="a pin that is no checksum"):
        rig.read(Remote("in/data", "gs://b/o", "sha256:abc", 3))
    assert rig.source.opened == []


def test_a_disk_that_cannot_keep_it_is_the_nodes_trouble(rig: Rig) -> None:
    rig.root.parent.mkdir(parents=True, exist_ok=True)
    rig.root.write_text("a file where the cache should be")
    with pytest.raises(BackendError):
        rig.read()


def test_a_small_cache_keeps_what_is_used_and_lets_the_rest_go(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    cache = BlobCache(rig.root, rig.blobs, limit=25_000)
    rig.remotes = Remotes(rig.root, cache, lambda url: rig.source)
    for number in range(6):
        content = bytes([number]) * 10_000
        rig.source.give = lambda content=content: io.BytesIO(content)  # type: ignore[misc]
        assert rig.read(Remote("x", f"gs://b/{number}", "generation:1", 10_000)) == content
    assert sum(path.stat().st_size for path in rig.files()) <= 25_000


def test_remotes_are_staged_beside_blobs_and_are_no_outputs(rig: Rig, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    blob = rig.blobs.put_bytes(b"blob")
    program = Remote("run.sh", "gs://b/run", "generation:2", len(CONTENT), True)
    manifest = Manifest.of([Entry("a", blob)], [PINNED, program])
    staged = stage_in(manifest, rig.cache, rig.remotes, work)
    assert (work / "in/data").read_bytes() == CONTENT
    assert (work / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (work / "in/data").stat().st_mode & 0o777 == 0o644
    assert (work / "a").read_bytes() == b"blob"
    (work / "in/data").write_bytes(b"changed by the task")
    assert [file.path for file in collect(work, staged, (), ()).files] == ["in/data"]
    assert rig.read() == CONTENT


def test_another_tasks_output_is_read_from_the_nodes_own_store(tmp_path: Path) -> None:
    store = MemoryStore()
    task = TaskId(JobId("job-1"), 3)
    store.put("results/job-1/3/2/out/p", lambda: io.BytesIO(CONTENT), len(CONTENT), SUM)
    site = ResultSite(Outputs(store))
    remote = Remote("in/data", result_url(task, 2, "out/p"), f"sha256:{SUM}", len(CONTENT))
    cache = BlobCache(tmp_path / "cache", Blobs(store))
    remotes = Remotes(tmp_path / "cache", cache, lambda url: opener_of(site, url))
    with remotes.opened(remote) as (file, digest):
        assert (file.read(), digest) == (CONTENT, Digest(SUM, len(CONTENT)))
    store.delete(["results/job-1/3/2/out/p"])
    missing = Remote("in/data", result_url(task, 2, "out/q"), f"sha256:{'0' * 64}", 1)
    gone = "the input in/data is gone: there is no kubeq://job-1/3/2/out/q"
    with pytest.raises(ObjectNotFound, match=gone), remotes.opened(missing):
        pass
    nonsense = Remote("in/data", "kubeq://job-1/x/2/q", f"sha256:{'0' * 64}", 1)
    with pytest.raises(IntegrityError, match="has no source"), remotes.opened(nonsense):
        pass


def test_a_scheme_that_has_no_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scheme 'ftp'"):
        opener_of(ResultSite(Outputs(MemoryStore())), "ftp://h/x")
