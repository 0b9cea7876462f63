"""Output directories and result documents: all bytes before the document, and nothing believed unchecked."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry
from kubeq.core.model import Ending, Exit, JobId, NodeName, Reason, TaskId, Usage
from kubeq.errors import BackendError, IntegrityError, ObjectNotFound, UsageError, VersionMismatch
from kubeq.store.memory import MemoryStore
from kubeq.store.outputs import OutputFile, Outputs, ResultDocument, Skipped, entries_of, result_document

TASK = TaskId(JobId("demo-1"), 17)
DOCUMENT_KEY = "results/demo-1/17/2.result.json"


def output(path: str, content: bytes, executable: bool = False) -> OutputFile:
    return OutputFile(path=path, open=lambda: io.BytesIO(content), digest=Digest.of(content), executable=executable)


def document(*files: OutputFile, task: TaskId = TASK, attempt: int = 2, **changes: Any) -> dict[str, Any]:
    result = ResultDocument(
        task=task,
        attempt=attempt,
        parameters={"x": "1"},
        command=("echo", "1"),
        state=Ending.SUCCEEDED,
        node=NodeName("pool-1"),
        claimed_at=1_000_000_000.5,
        files=[file.entry for file in files],
    )
    return {**result_document(result), **changes}


def publish(store: MemoryStore, *files: OutputFile, stdout: Path | None = None, **changes: Any) -> None:
    Outputs(store).publish(TASK, 2, files, stdout, document(*files, **changes))


def stored(store: MemoryStore) -> dict[str, bytes]:
    found = {}
    for each in store.list(""):
        with store.get(each.key) as stream:
            found[each.key] = stream.read()
    return found


def stand(store: MemoryStore, key: str, content: bytes) -> None:
    digest = Digest.of(content)
    assert store.put(key, lambda: io.BytesIO(content), digest.size, digest.sha256)


def hostile(**changes: Any) -> MemoryStore:
    """A store whose result document a node has written as it liked."""
    store = MemoryStore()
    stand(store, DOCUMENT_KEY, json.dumps({**document(), **changes}).encode())
    return store


def test_everything_that_is_known_of_an_attempt_is_in_the_document() -> None:
    result = ResultDocument(
        task=TASK,
        attempt=2,
        parameters={"x": "1", "name": "é"},
        command=("python3", "a b.py"),
        state=Ending.FAILED,
        reason=Reason.OUT_OF_MEMORY,
        message="it was too large",
        exit=Exit(code=137, signal=9, out_of_memory=True),
        usage=Usage(wall_s=1.5, cpu_s=1.25, peak_memory_bytes=1024),
        node=NodeName("pool-1"),
        image_digest="python@sha256:abc",
        claimed_at=1_000_000_000.0,
        started_at=1_000_000_001.25,
        ended_at=1_000_000_002.5,
        files=[Entry("b", Digest.of(b"b")), Entry("a", Digest.of(b"a"), True)],
        skipped=[Skipped(path="link", why="a symbolic link")],
        stdout_size=12,
        stdout_dropped=3,
    )
    assert result_document(result) == {
        "schema": 1,
        "job": "demo-1",
        "task": "demo-1/17",
        "index": 17,
        "attempt": 2,
        "parameters": {"x": "1", "name": "é"},
        "command": ["python3", "a b.py"],
        "state": "failed",
        "reason": "out_of_memory",
        "message": "it was too large",
        "exit": {"code": 137, "signal": 9, "out_of_memory": True},
        "usage": {"wall_s": 1.5, "cpu_s": 1.25, "peak_memory_bytes": 1024},
        "node": "pool-1",
        "image_digest": "python@sha256:abc",
        "claimed_at": "2001-09-09T01:46:40.000Z",
        "started_at": "2001-09-09T01:46:41.250Z",
        "ended_at": "2001-09-09T01:46:42.500Z",
        "files": [
            {"path": "a", "sha256": Digest.of(b"a").sha256, "size": 1, "executable": True},
            {"path": "b", "sha256": Digest.of(b"b").sha256, "size": 1, "executable": False},
        ],
        "skipped": [{"path": "link", "why": "a symbolic link"}],
        "stdout": {"size": 12, "dropped": 3},
    }


def test_an_attempt_is_published_as_plain_files_beside_its_document(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"printed\n")
    files = [output("plot.png", b"png"), output("deep/er/table é.csv", b"1,2", True)]
    store = MemoryStore()
    publish(store, *files, stdout=tmp_path / "log")
    found = stored(store)
    assert sorted(found) == [
        DOCUMENT_KEY,
        "results/demo-1/17/2.stdout.txt",
        "results/demo-1/17/2/deep/er/table é.csv",
        "results/demo-1/17/2/plot.png",
    ]
    assert found["results/demo-1/17/2/plot.png"] == b"png"
    assert found["results/demo-1/17/2.stdout.txt"] == b"printed\n"
    assert json.loads(found[DOCUMENT_KEY]) == document(*files)


def test_what_was_published_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"0123456789")
    store, outputs = MemoryStore(), None
    publish(store, output("a/b", b"content"), stdout=tmp_path / "log")
    outputs = Outputs(store)
    result = outputs.read_result(TASK, 2)
    assert entries_of(result) == (Entry("a/b", Digest.of(b"content")),)
    with outputs.open_file(TASK, 2, "a/b") as stream:
        assert stream.read() == b"content"
    with outputs.open_stdout(TASK, 2) as stream:
        assert stream.read() == b"0123456789"
    with outputs.open_stdout(TASK, 2, 7) as stream:
        assert stream.read() == b"789"


def test_names_that_a_task_chooses_cannot_collide_with_ours() -> None:
    store = MemoryStore()
    files = [output(name, name.encode()) for name in ("stdout.txt", "result.json", "2.result.json", ".kubeq")]
    publish(store, *files)
    assert len(stored(store)) == 5
    assert len(entries_of(Outputs(store).read_result(TASK, 2))) == 4


def test_words_that_are_not_text_survive_in_the_document() -> None:
    store = MemoryStore()
    publish(store, command=["a\udcffb", "line\nbreak", "\U0001f600"], message="\ud800")
    assert Outputs(store).read_result(TASK, 2)["command"] == ["a\udcffb", "line\nbreak", "\U0001f600"]


class Recording(MemoryStore):
    """Writes down the keys in the order in which their puts ended, and what stood when each began."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.began: list[tuple[str, set[str]]] = []
        self.broken = broken
        self.lock = threading.Lock()

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        with self.lock:
            self.began.append((key, {each.key for each in self.list("")}))
        if self.broken and self.broken in key:
            raise BackendError("the store is full")
        return super().put(key, open, size, sha256)


def test_all_bytes_stand_before_the_document_is_begun(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"log")
    store = Recording()
    publish(store, *[output(f"f{number}", os.urandom(1000)) for number in range(30)], stdout=tmp_path / "log")
    key, standing = store.began[-1]
    assert key == DOCUMENT_KEY
    assert len(standing) == 31


@pytest.mark.parametrize("broken", ["f7", "stdout"])
def test_no_document_is_written_when_a_file_cannot_be_stored(broken: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"log")
    store = Recording(broken=broken)
    with pytest.raises(BackendError, match="the store is full"):
        publish(store, *[output(f"f{number}", b"x") for number in range(30)], stdout=tmp_path / "log")
    assert DOCUMENT_KEY not in stored(store)


@pytest.mark.parametrize("broken", ["f3", "stdout", "result.json"])
def test_a_publication_cut_short_can_be_repeated(broken: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"log")
    files = [output(f"f{number}", bytes([number])) for number in range(5)]
    store = Recording(broken=broken)
    with pytest.raises(BackendError):
        publish(store, *files, stdout=tmp_path / "log")
    store.broken = ""
    for _ in range(2):
        publish(store, *files, stdout=tmp_path / "log")
    assert entries_of(Outputs(store).read_result(TASK, 2)) == tuple(file.entry for file in files)


def test_an_object_of_another_size_in_the_way_is_refused_and_left_alone() -> None:
    store = MemoryStore()
    stand(store, "results/demo-1/17/2/out", b"from another time")
    with pytest.raises(IntegrityError, match=r"demo-1/17.*other bytes"):
        publish(store, output("out", b"mine"))
    assert stored(store) == {"results/demo-1/17/2/out": b"from another time"}


def test_another_document_of_the_same_attempt_is_refused_and_left_alone() -> None:
    store = MemoryStore()
    publish(store, message="a")
    before = stored(store)
    with pytest.raises(IntegrityError, match="demo-1/17"):
        publish(store, message="b")
    assert stored(store) == before


def test_an_output_that_vanished_is_an_error_naming_task_and_file() -> None:
    def gone() -> BinaryIO:
        raise FileNotFoundError(2, "No such file or directory", "/job/out")

    store = MemoryStore()
    with pytest.raises(BackendError, match=r"demo-1/17.*results/demo-1/17/2/out.*No such file"):
        publish(store, OutputFile(path="out", open=gone, digest=Digest.of(b"")))
    assert stored(store) == {}


def test_an_output_whose_name_is_too_long_for_a_key_is_an_error_naming_the_task() -> None:
    store = MemoryStore()
    long = "/".join(["d" * 199] * 5)
    task = TaskId(JobId("j" * 60), 1)
    with pytest.raises(BackendError, match="its name is too long") as caught:
        Outputs(store).publish(task, 1, [output(long, b"x")], None, document(output(long, b"x"), task=task, attempt=1))
    assert not caught.value.transient
    assert stored(store) == {}


def test_a_document_that_names_other_files_than_are_stored_is_a_bug_of_the_caller() -> None:
    store = MemoryStore()
    with pytest.raises(ValueError, match="does not name the files"):
        Outputs(store).publish(TASK, 2, [output("a", b"1")], None, document())
    assert stored(store) == {}


DIGEST = Digest.of(b"x")


def row(path: Any = "out", sha256: Any = DIGEST.sha256, size: Any = 1, executable: Any = False) -> dict[str, Any]:
    return {"path": path, "sha256": sha256, "size": size, "executable": executable}


HOSTILE_PATHS: list[Any] = ["../../x", "/etc/passwd", "a/../b", "a//b", "./a", "a/", "", ".", "..", "a\0b", "a\nb"]
HOSTILE_PATHS += ["x" * 256, "é/" * 600 + "x", "e\u0301", "\ud800", 7, None, ["a"], {}]


@pytest.mark.parametrize(
    "files",
    [
        *[[row(path=path)] for path in HOSTILE_PATHS],
        *[[row(size=size)] for size in (-1, 1.0, "1", True, None, 1e300, float("nan"))],
        *[
            [row(sha256=sha256)]
            for sha256 in ("", "0" * 63, "G" * 64, DIGEST.sha256.upper(), "../" + "0" * 61, 7, None)
        ],
        *[[row(executable=executable)] for executable in (0, "yes", None)],
        [row(), row()],
        [row("a"), row("a/b")],
        [{"path": "out"}],
        ["out"],
        {"out": row()},
        None,
    ],
    ids=repr,
)
def test_a_document_with_hostile_files_is_refused_naming_the_task(files: Any) -> None:
    with pytest.raises(IntegrityError, match="demo-1/17") as caught:
        Outputs(hostile(files=files)).read_result(TASK, 2)
    assert caught.value.exit_code == 7
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("job", "other-1"),
        ("task", "demo-1/18"),
        ("index", 18),
        ("index", 17.0),
        ("attempt", 1),
        ("attempt", "2"),
        ("schema", 1.0),
        ("schema", "1"),
        ("schema", None),
        ("parameters", ["x"]),
        ("parameters", {"x": 1}),
        ("command", "echo"),
        ("command", [1]),
        ("state", "pending"),
        ("state", []),
        ("state", None),
        ("reason", "because"),
        ("reason", {}),
        ("message", 1),
        ("exit", {}),
        ("exit", {"code": "0", "signal": None, "out_of_memory": False}),
        ("usage", {"wall_s": "long"}),
        ("node", None),
        ("image_digest", 1),
        ("claimed_at", 1_000_000_000),
        ("claimed_at", None),
        ("claimed_at", "yesterday"),
        ("started_at", "2001-09-09T01:46:40"),
        ("skipped", [{"path": "a"}]),
        ("skipped", None),
        ("stdout", {"size": -1, "dropped": 0}),
        ("stdout", []),
    ],
)
def test_a_document_with_a_wrong_field_is_refused_naming_the_task(field: str, value: Any) -> None:
    assert Outputs(hostile()).read_result(TASK, 2) == document()
    with pytest.raises(IntegrityError, match="demo-1/17"):
        Outputs(hostile(**{field: value})).read_result(TASK, 2)


@pytest.mark.parametrize("field", sorted(set(document())))
def test_a_document_that_lacks_a_field_is_refused(field: str) -> None:
    store = MemoryStore()
    stand(
        store, DOCUMENT_KEY, json.dumps({name: value for name, value in document().items() if name != field}).encode()
    )
    with pytest.raises(IntegrityError, match="demo-1/17"):
        Outputs(store).read_result(TASK, 2)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe\x00", b"[" * 1_000_000, b'{"schema":' + b"9" * 5000 + b"}", b"NaN", b"1"],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_document_is_refused_naming_the_task(content: bytes) -> None:
    store = MemoryStore()
    stand(store, DOCUMENT_KEY, content)
    with pytest.raises(IntegrityError, match="demo-1/17"):
        Outputs(store).read_result(TASK, 2)


def test_a_huge_document_is_not_read_into_memory() -> None:
    store = MemoryStore()
    stand(store, DOCUMENT_KEY, b" " * (33 * 2**20))
    with pytest.raises(IntegrityError, match=r"demo-1/17 is larger"):
        Outputs(store).read_result(TASK, 2)


def test_a_document_of_a_newer_kubeq_is_refused_as_such() -> None:
    with pytest.raises(VersionMismatch, match="demo-1/17"):
        Outputs(hostile(schema=2)).read_result(TASK, 2)


def test_what_was_not_published_is_not_found() -> None:
    outputs = Outputs(MemoryStore())
    with pytest.raises(ObjectNotFound):
        outputs.read_result(TASK, 1)
    with pytest.raises(ObjectNotFound), outputs.open_stdout(TASK, 1):
        pass
    with pytest.raises(ObjectNotFound), outputs.open_file(TASK, 1, "a"):
        pass
    with pytest.raises(UsageError, match="leaves the work directory"):
        outputs.open_file(TASK, 1, "../2/a")


def test_deleting_a_job_leaves_nothing_of_it_and_everything_of_others() -> None:
    store = MemoryStore()
    others = ["results/j-2/1/1/a", "results/j2/1/1.result.json", "logs/j2/1/1/00000001", "blobs/aa/x"]
    ours = ["results/j/1/1/a", "results/j/1/1.result.json", "logs/j/1/1/00000001"]
    for key in [*others, *ours, *(f"results/j/{number}/1/a" for number in range(10, 1300))]:
        stand(store, key, b"x")
    Outputs(store).delete_leavings(JobId("j"))
    assert "logs/j/1/1/00000001" not in stored(store)
    assert "results/j/1/1/a" in stored(store)
    Outputs(store).delete_job(JobId("j"))
    Outputs(store).delete_job(JobId("j"))
    assert sorted(stored(store)) == sorted(others)


def test_the_url_of_a_job_and_of_a_task() -> None:
    outputs = Outputs(MemoryStore())
    assert outputs.url_of(JobId("demo-1")) == "memory:/results/demo-1/"
    assert outputs.url_of(TASK) == "memory:/results/demo-1/17/"
