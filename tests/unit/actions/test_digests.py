"""The cache of digests: right whatever happens to it, and quick when nothing has changed."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from kubeq.actions.digests import DigestCache
from kubeq.core.digest import Digest
from kubeq.errors import UsageError

OLD_NS = 1_700_000_000_000_000_000
CACHE = "cache/digests.db"


class Later:
    """A clock that is an hour ahead: every change of a file is long past."""

    def now(self) -> float:
        return time.time() + 3600

    def monotonic(self) -> float:
        return time.monotonic()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    return path


def digests(folder: Path, *paths: Path) -> dict[Path, Digest]:
    return DigestCache(folder / CACHE, Later()).digests_of(paths, threads=2)


def entries(folder: Path) -> int:
    database = sqlite3.connect(folder / CACHE)
    (count,) = database.execute("SELECT count(*) FROM files_1").fetchone()
    database.close()
    return int(count)


def poison(folder: Path, digest: Digest) -> None:
    """Make every entry say something wrong, so that it shows whether it is used."""
    database = sqlite3.connect(folder / CACHE)
    database.execute("UPDATE files_1 SET digest = ?", (str(digest),))
    database.commit()
    database.close()


@pytest.fixture
def remembered(tmp_path: Path) -> Path:
    """A file whose entry in the cache is wrong on purpose."""
    path = written(tmp_path / "a", b"right")
    assert digests(tmp_path, path) == {path: Digest.of(b"right")}
    poison(tmp_path, Digest.of(b"wrong"))
    return path


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, remembered: Path) -> None:
    assert digests(tmp_path, remembered) == {remembered: Digest.of(b"wrong")}


@pytest.mark.parametrize("change", ["content", "size", "mtime", "inode", "same_size_and_mtime"])
def test_a_changed_file_is_read_again(tmp_path: Path, remembered: Path, change: str) -> None:
    content = b"right"
    match change:
        case "content":
            remembered.write_bytes(content := b"other")
        case "size":
            remembered.write_bytes(content := b"longer")
            os.utime(remembered, ns=(OLD_NS, OLD_NS))
        case "mtime":
            os.utime(remembered, ns=(OLD_NS, OLD_NS + 1))
        case "inode":
            written(tmp_path / "b", content).rename(remembered)
        case "same_size_and_mtime":
            before = remembered.stat().st_ctime_ns
            while remembered.stat().st_ctime_ns == before:  # a tick of the kernel's clock: some milliseconds
                written(remembered, content := b"tight")
    assert digests(tmp_path, remembered) == {remembered: Digest.of(content)}


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    fresh, backdated = tmp_path / "a", written(tmp_path / "b", b"x")
    fresh.write_bytes(b"x")
    cache = DigestCache(tmp_path / CACHE)
    assert cache.digests_of([fresh, backdated], threads=1) == dict.fromkeys([fresh, backdated], Digest.of(b"x"))
    assert entries(tmp_path) == 0


def test_the_cache_may_be_deleted(tmp_path: Path, remembered: Path) -> None:
    (tmp_path / CACHE).unlink()
    assert digests(tmp_path, remembered) == {remembered: Digest.of(b"right")}
    assert entries(tmp_path) == 1


@pytest.mark.parametrize("damage", ["garbage", "truncated", "torn", "half a digest", "empty"])
def test_a_damaged_cache_is_made_anew_with_one_warning(
    tmp_path: Path, remembered: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    cache = tmp_path / CACHE
    match damage:
        case "garbage":
            cache.write_bytes(os.urandom(5000))
        case "truncated":
            cache.write_bytes(cache.read_bytes()[:1000])
        case "torn":
            cache.write_bytes(cache.read_bytes()[:4096] + b"\xff" * 8192)
        case "half a digest":
            database = sqlite3.connect(cache)
            database.execute("UPDATE files_1 SET digest = 'abc'")
            database.commit()
            database.close()
        case "empty":
            cache.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert digests(tmp_path, remembered) == {remembered: Digest.of(b"right")}
    assert len(caplog.records) == (0 if damage == "empty" else 1)
    assert entries(tmp_path) == 1
    caplog.clear()
    assert digests(tmp_path, remembered) == {remembered: Digest.of(b"right")}
    assert not caplog.records


@pytest.mark.parametrize("obstacle", ["a file in its way", "a directory of its name"])
def test_where_there_can_be_no_cache_files_are_read_and_nobody_is_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    path = written(tmp_path / "a", b"x")
    if obstacle == "a file in its way":
        (tmp_path / "cache").write_bytes(b"")
    else:
        (tmp_path / CACHE).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert digests(tmp_path, path) == {path: Digest.of(b"x")}
    assert not caplog.records


def test_each_distinct_file_is_read_once_and_told_once(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(50)]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * number)
    seen: list[tuple[int, int]] = []
    found = DigestCache(tmp_path / CACHE).digests_of(
        [*paths, *paths], threads=4, progress=lambda files, size: seen.append((files, size))
    )
    assert found == {path: Digest.of(b"x" * number) for number, path in enumerate(paths)}
    assert [files for files, _ in seen] == list(range(51))
    assert seen[-1] == (50, sum(range(50)))


def test_thousands_of_files_are_hashed_in_batches_and_remembered_in_one_go(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(1500)]
    for path in paths:
        path.write_bytes(path.name.encode())
    assert digests(tmp_path, *paths) == {path: Digest.of(path.name.encode()) for path in paths}
    poison(tmp_path, Digest.of(b"wrong"))
    assert set(digests(tmp_path, *paths).values()) == {Digest.of(b"wrong")}


def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path) -> None:
    path = written(tmp_path / os.fsdecode(b"\xff\xfe"), b"x")
    for _ in range(2):
        assert digests(tmp_path, path) == {path: Digest.of(b"x")}
    assert entries(tmp_path) == 1


@pytest.mark.parametrize("gone", ["missing", "folder"])
def test_a_file_that_is_gone_or_no_file_is_named(tmp_path: Path, gone: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=gone):
        digests(tmp_path, tmp_path / gone)


def test_several_processes_may_share_the_cache(tmp_path: Path) -> None:
    paths = [written(tmp_path / str(number), str(number).encode()) for number in range(40)]
    wanted = {path: Digest.of(path.name.encode()) for path in paths}
    results: list[bool] = []
    sharers = [threading.Thread(target=lambda: results.append(digests(tmp_path, *paths) == wanted)) for _ in range(6)]
    for sharer in sharers:
        sharer.start()
    for sharer in sharers:
        sharer.join(30)
    assert results == [True] * 6
    assert entries(tmp_path) == 40


def test_no_file_is_no_digest(tmp_path: Path) -> None:
    assert digests(tmp_path) == {}
