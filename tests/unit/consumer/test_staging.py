"""Inputs become copies, outputs are what is new or changed, and nothing that a task leaves can trick the agent."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest
from kubeq.store.blobs import Blobs
from kubeq.store.memory import MemoryStore
from kubeq.store.open import open_site
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.remotes import Remotes
from kubeq_consumer.staging import Staged, collect, stage_in


@pytest.fixture
def blobs() -> Blobs:
    return Blobs(MemoryStore())


@pytest.fixture
def cache(tmp_path: Path, blobs: Blobs) -> BlobCache:
    return BlobCache(tmp_path / "cache", blobs)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def staged(blobs: Blobs, cache: BlobCache, work: Path, files: dict[str, bytes]) -> Staged:
    manifest = Manifest.of(
        Entry(path, blobs.put_bytes(content), path.endswith(".sh")) for path, content in files.items()
    )
    return stage_in(manifest, cache, Remotes(work.parent / "cache", cache, open_site), work)


def read(cache: BlobCache, digest: Digest) -> bytes:
    with cache.opened(digest) as file:
        return file.read()


def paths(work: Path, before: Staged, results: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> list[str]:
    return [file.path for file in collect(work, before, results, ignore).files]


def test_inputs_arrive_with_their_bytes_and_executable_bits(blobs: Blobs, cache: BlobCache, work: Path) -> None:
    staged(blobs, cache, work, {"a.txt": b"A", "deep/er/run.sh": b"#!/bin/sh\n", "empty": b""})
    assert (work / "a.txt").read_bytes() == b"A"
    assert (work / "deep/er/run.sh").stat().st_mode & 0o777 == 0o755
    assert (work / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (work / "empty").read_bytes() == b""


def test_inputs_arrive_also_from_a_cache_on_a_file_system_of_another_kind(blobs: Blobs, work: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == work.stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as root:
        content = os.urandom(3_000_000)
        before = staged(blobs, BlobCache(Path(root), blobs), work, {"a.bin": content, "run.sh": b"#!", "empty": b""})
    assert (work / "a.bin").read_bytes() == content
    assert (work / "run.sh").stat().st_mode & 0o777 == 0o755
    assert paths(work, before) == []


def test_a_task_that_writes_its_input_never_changes_the_cache(blobs: Blobs, cache: BlobCache, work: Path) -> None:
    staged(blobs, cache, work, {"a.txt": b"original"})
    (work / "a.txt").write_bytes(b"scribble")
    assert read(cache, Digest.of(b"original")) == b"original"


def test_only_new_and_changed_files_are_outputs(blobs: Blobs, cache: BlobCache, work: Path) -> None:
    before = staged(blobs, cache, work, {"same": b"1", "changed": b"1", "touched": b"1", "gone": b"1"})
    (work / "changed").write_bytes(b"2")
    (work / "touched").write_bytes(b"1")
    (work / "gone").unlink()
    (work / "new").mkdir()
    (work / "new/file").write_bytes(b"")
    assert paths(work, before) == ["changed", "new/file"]


def test_patterns_choose_and_exclude(work: Path) -> None:
    for name in ("a.png", "b.csv", "deep/c.png", "deep/er/d.png", "tmp/x.png"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    none = Staged({})
    assert paths(work, none, results=("*.png",)) == ["a.png", "deep/c.png", "deep/er/d.png", "tmp/x.png"]
    assert paths(work, none, results=("./*.png",)) == ["a.png"]
    assert paths(work, none, results=("deep/*.png",)) == ["deep/c.png"]
    assert paths(work, none, results=("deep/**",), ignore=("deep/er/",)) == ["deep/c.png"]
    assert paths(work, none, ignore=("tmp/", "*.csv")) == ["a.png", "deep/c.png", "deep/er/d.png"]


def test_links_pipes_and_sockets_are_listed_and_never_opened(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hush")
    (work / "link").symlink_to(secret / "key")
    (work / "folder").symlink_to(secret)
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(work)  # the whole path may be too long for a socket
        listener.bind("sock")
        (work / "real").write_text("ok")
        found = collect(work, Staged({}), (), ())
    assert [file.path for file in found.files] == ["real"]
    assert dict(found.skipped) == {
        "link": "it is a symbolic link",
        "folder": "it is a symbolic link",
        "pipe": "it is a FIFO",
        "sock": "it is a socket",
    }


def test_a_name_that_cannot_be_stored_is_listed(work: Path) -> None:
    (work / "line\nbreak").write_text("x")
    with open(os.fsencode(work) + b"/not-\xff-utf8", "wb") as file:
        file.write(b"x")
    found = collect(work, Staged({}), (), ())
    assert not found.files
    assert sorted(path for path, _ in found.skipped) == ["line\nbreak", "not-\\udcff-utf8"]


def test_an_output_swapped_for_a_link_after_collection_cannot_be_read_through(work: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    (work / "out").write_text("result")
    (found,) = collect(work, Staged({}), (), ()).files
    (work / "out").unlink()
    (work / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        found.open()
