"""What only the directory store promises: durability, modes, leftovers, and what a bad disk looks like."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound
from kubeq.store.base import ObjectStore
from kubeq.store.local import SETTLE_FILES, LocalStore

ROOT = Path(__file__).parents[3]


def put(store: ObjectStore, key: str, content: bytes) -> bool:
    return store.put(key, lambda: io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def leftovers(root: Path) -> list[Path]:
    return sorted((root / "tmp").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_the_constructor_touches_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "a" / "b")
    assert list(store.list("")) == []
    assert store.stat(["x"]) == {}
    store.delete(["x"])
    with pytest.raises(ObjectNotFound), store.get("x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_objects_are_read_only_files_in_private_directories(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "store"
    put(LocalStore(root), "a/b", b"content")
    assert (root / "a" / "b").read_bytes() == b"content"
    assert (root / "a" / "b").stat().st_mode & 0o222 == 0
    for directory in (root.parent, root, root / "a", root / "tmp"):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert leftovers(root) == []


def test_nothing_is_left_of_a_put_that_failed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    class Breaking(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
            raise OSError("the source broke")

    with pytest.raises(IntegrityError):
        store.put("a", lambda: io.BytesIO(b"abc"), 4, "0" * 64)
    with pytest.raises(OSError, match="the source broke"):
        store.put("a", lambda: io.BufferedReader(Breaking()), 4, "0" * 64)
    assert leftovers(tmp_path) == []


def test_leftovers_older_than_a_day_are_swept_by_the_first_put(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    for name, age in (("old", 90_000), ("young", 80_000)):
        (tmp_path / "tmp" / name).write_bytes(b"half")
        os.utime(tmp_path / "tmp" / name, (time.time() - age,) * 2)
    store = LocalStore(tmp_path)
    put(store, "a", b"1")
    assert leftovers(tmp_path) == [tmp_path / "tmp" / "young"]
    os.utime(tmp_path / "tmp" / "young", (0, 0))
    put(store, "b", b"2")
    assert leftovers(tmp_path) == [tmp_path / "tmp" / "young"]


def test_a_directory_goes_with_its_last_object_but_never_the_root(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    put(store, "results/j/1/1/a/b", b"1")
    put(store, "results/k", b"1")
    store.delete(["results/j/1/1/a/b"])
    assert sorted(path.name for path in (tmp_path / "store").rglob("*")) == ["k", "results", "tmp"]
    store.delete(["results/k"])
    assert (tmp_path / "store").is_dir()


def test_what_is_not_an_object_is_not_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put(store, "d/object", b"1")
    os.mkfifo(tmp_path / "d" / "fifo")
    (tmp_path / "d" / "link").symlink_to(tmp_path / "d" / "object")
    (tmp_path / "d" / "loop").symlink_to(tmp_path)
    (tmp_path / "d" / "new\nline").write_bytes(b"")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/d/not-\xff-utf-8"))).write_bytes(b"")
    (tmp_path / "tmp" / "half").write_bytes(b"")
    assert [stored.key for stored in store.list("")] == ["d/object"]


def test_a_full_disk_is_told_with_the_bytes_wanted_and_leaves_nothing(small_disk: Path) -> None:
    store = LocalStore(small_disk / "store")
    assert put(store, "small", b"s" * 1000)
    with pytest.raises(BackendError, match=r"No space left on device \(3000000 bytes were wanted\)") as caught:
        put(store, "big", b"b" * 3_000_000)
    assert not caught.value.transient
    assert caught.value.hint is not None
    assert leftovers(small_disk / "store") == []
    assert store.stat(["big", "small"]) == {"small": 1000}
    assert put(store, "other", b"o" * 1000)


def test_a_read_only_file_system_is_access_denied_naming_the_path(small_disk: Path) -> None:
    store = LocalStore(small_disk / "store")
    put(store, "before", b"1")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(AccessDenied, match=rf"{small_disk}/store/tmp.*Read-only"):
        put(store, "after", b"1")
    with pytest.raises(AccessDenied, match=rf"{small_disk}/store/before"):
        store.delete(["before"])
    assert store.stat(["before"]) == {"before": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_of_others_is_access_denied_naming_the_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AccessDenied, match=rf"{tmp_path}/store"):
        put(LocalStore(tmp_path / "store"), "a", b"1")


def test_a_file_in_place_of_the_store_is_an_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no store")
    store = LocalStore(tmp_path / "file")
    with pytest.raises(BackendError, match=r"file/tmp.*Not a directory"):
        put(store, "a", b"1")
    assert list(store.list("")) == []


def test_a_process_killed_in_a_put_leaves_no_object_and_spoils_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from kubeq.store.local import LocalStore;"
        "LocalStore(Path(sys.argv[1])).put('d/killed', lambda: sys.stdin.buffer.raw, 4_000_000, '0' * 64)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, tmp_path / "store"], stdin=subprocess.PIPE, cwd=ROOT)
    assert child.stdin is not None
    child.stdin.write(b"x" * 2_000_000)
    child.stdin.flush()
    deadline = time.monotonic() + 20
    while sum(file.stat().st_size for file in (tmp_path / "store").glob("tmp/*")) < 1_000_000:
        assert time.monotonic() < deadline, "the child has written nothing"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    store = LocalStore(tmp_path / "store")
    assert list(store.list("")) == []
    assert len(leftovers(tmp_path / "store")) == 1
    assert put(store, "d/killed", b"whole")


def test_an_object_of_a_batch_is_not_seen_before_it_is_durable(tmp_path: Path) -> None:
    store, other = LocalStore(tmp_path), LocalStore(tmp_path)
    with store.batch() as batch:
        assert put(batch, "d/a", b"abc")
        assert other.stat(["d/a"]) == {}
        assert list(other.list("")) == []
    assert other.stat(["d/a"]) == {"d/a": 3}
    assert leftovers(tmp_path) == []


def test_nothing_is_left_of_a_batch_that_raised(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(KeyError), store.batch() as batch:
        put(batch, "d/a", b"abc")
        put(batch, "d/b", b"abc")
        raise KeyError
    assert leftovers(tmp_path) == []
    assert list(store.list("")) == []


def test_a_long_batch_settles_on_the_way_so_that_a_repetition_goes_on(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(KeyError), store.batch() as batch:
        for number in range(SETTLE_FILES + 1):
            put(batch, f"d/{number}", b"")
        raise KeyError
    assert len(list(store.list(""))) == SETTLE_FILES
    assert leftovers(tmp_path) == []


def test_a_batch_that_met_another_size_at_its_end_says_so_and_overwrites_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(IntegrityError, match="d/a"), store.batch() as batch:
        put(batch, "d/a", b"abc")
        put(batch, "d/b", b"abc")
        put(store, "d/a", b"a")
    assert store.stat(["d/a"]) == {"d/a": 1}
    assert leftovers(tmp_path) == []


def traced(program: str, trace: Path, store: Path) -> str:
    """What the program asked of the system, in strace's words."""
    calls = "trace=openat,write,fsync,fdatasync,syncfs,link,linkat,unlink,unlinkat,mkdir,access"
    command = ["strace", "-f", "-y", "-e", calls, "-o", str(trace), sys.executable, "-c", program, str(store)]
    if subprocess.run(command, cwd=ROOT, capture_output=True).returncode != 0:
        pytest.skip("strace cannot trace here")
    return trace.read_text()


def require_order(text: str, steps: list[str]) -> None:
    place = 0
    for step in steps:
        found = re.compile(step).search(text, place)
        assert found, f"{step} does not come after position {place} in\n{text[text.index('store') :]}"
        place = found.end()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_batch_syncs_all_bytes_before_it_gives_any_a_name_and_the_names_before_it_ends(tmp_path: Path) -> None:
    program = (
        "import io, hashlib, os, sys; from pathlib import Path; from kubeq.store.local import LocalStore\n"
        "digest = hashlib.sha256(b'abc').hexdigest()\n"
        "with LocalStore(Path(sys.argv[1])).batch() as batch:\n"
        "    for name in ('one', 'two'):\n"
        "        batch.put('d/' + name, lambda: io.BytesIO(b'abc'), 3, digest)\n"
        "os.access('/the-batch-has-ended', 0)\n"
    )
    text = traced(program, tmp_path / "trace", tmp_path / "store")
    store = re.escape(str(tmp_path / "store"))
    written = rf"write\(\d+<{store}/tmp/\S+>, \"abc\""
    synced = rf"syncfs\(\d+<{store}\S*>\) += 0"
    linked = rf"link(at)?\(.*{store}/tmp/\S+\".*{store}/d/\w+\".*\) += 0"
    require_order(text, [written, written, synced, linked, linked, synced, r"access\(\"/the-batch-has-ended"])
    assert not re.search(linked, text[: re.search(synced, text).start()])  # type: ignore[union-attr]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_bytes_are_durable_before_their_name_and_the_name_before_the_return(tmp_path: Path) -> None:
    program = (
        "import io, hashlib, os, sys; from pathlib import Path; from kubeq.store.local import LocalStore\n"
        "digest = hashlib.sha256(b'abc').hexdigest()\n"
        "LocalStore(Path(sys.argv[1])).put('d/e/key', lambda: io.BytesIO(b'abc'), 3, digest)\n"
        "os.access('/the-put-has-returned', 0)\n"
    )
    text = traced(program, tmp_path / "trace", tmp_path / "store")
    store = re.escape(str(tmp_path / "store"))
    steps = [
        rf"write\(\d+<{store}/tmp/\S+>, \"abc\"",
        rf"f(data)?sync\(\d+<{store}/tmp/\S+>\) += 0",
        rf"link(at)?\(.*{store}/tmp/\S+\".*{store}/d/e/key\".*\) += 0",
        rf"unlink(at)?\(.*{store}/tmp/",
        rf"f(data)?sync\(\d+<{store}/d/e>\) += 0",
        r"access\(\"/the-put-has-returned",
    ]
    require_order(text, steps)
    for made, parent in ((r"", re.escape(str(tmp_path))), ("/d", store), ("/d/e", rf"{store}/d")):
        created = re.search(rf"mkdir\(\"{store}{made}\", 0700\) += 0", text)
        assert created, made
        assert re.compile(rf"f(data)?sync\(\d+<{parent}>\) += 0").search(text, created.end()), parent
