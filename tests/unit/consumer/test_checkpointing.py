"""The directory that survives to the next attempt, on a store that may be away or slow."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from kubeq.core.clock import SystemClock
from kubeq.core.model import JobId, TaskId
from kubeq.errors import BackendError
from kubeq.store.checkpoints import Checkpoints
from kubeq.store.memory import MemoryStore
from kubeq_consumer.checkpointing import Keeping

TASK = TaskId(JobId("j"), 7)


class Slow(MemoryStore):
    """A store that can be away, or whose puts wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.go_on = threading.Event()
        self.go_on.set()

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        if self.away:
            raise BackendError("the store is away", transient=True)
        self.go_on.wait(30)
        return super().put(key, open, size, sha256)


class Scene:
    """Attempts of one task, each in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.store = Slow()
        self.leaving = threading.Event()
        self._root = root

    def attempt(self, number: int, *, open_to_all: bool = False) -> Keeping:
        place = self._root / str(number)
        place.mkdir()
        keeping = Keeping(Checkpoints(self.store), SystemClock(), self.leaving, 0.2, place)
        keeping.restore(TASK, number, open_to_all=open_to_all)
        return keeping

    def keys(self) -> list[str]:
        return [stored.key.partition("-")[0] for stored in self.store.list("checkpoints/")]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_newest_is_found_and_older_ones_go_when_it_stands(scene: Scene) -> None:
    for number in (2, 9, 10):
        keeping = scene.attempt(number)
        before = keeping.folder / "n"
        assert (before.read_text() if before.exists() else "") == {2: "", 9: "2", 10: "9"}[number]
        before.write_text(str(number))
        keeping.save(TASK, number)
        assert scene.keys() == [f"checkpoints/j/7/{number}"]
    scene.attempt(11).drop()
    assert scene.keys() == []


def test_an_attempt_that_leaves_nothing_keeps_what_an_earlier_one_has_left(scene: Scene) -> None:
    first = scene.attempt(1)
    (first.folder / "n").write_text("1")
    first.save(TASK, 1)
    second = scene.attempt(2)
    (second.folder / "n").unlink()
    second.save(TASK, 2)
    assert scene.keys() == ["checkpoints/j/7/1"]


def test_a_checkpoint_that_was_spoilt_is_not_used(scene: Scene) -> None:
    first = scene.attempt(1)
    (first.folder / "n").write_text("1")
    first.save(TASK, 1)
    (stored,) = scene.store.list("checkpoints/")
    scene.store.delete([stored.key])
    scene.store.put(stored.key, lambda: io.BytesIO(b"x"), 1, hashlib.sha256(b"x").hexdigest())
    assert list(scene.attempt(2).folder.iterdir()) == []


def test_a_store_that_is_away_costs_the_checkpoint_and_nothing_else(scene: Scene) -> None:
    keeping = scene.attempt(1)
    (keeping.folder / "n").write_text("1")
    scene.store.away = True
    keeping.save(TASK, 1)
    assert scene.keys() == []
    assert not keeping.saving


def test_an_agent_that_is_to_leave_waits_for_a_large_one_only_for_a_while(scene: Scene) -> None:
    keeping = scene.attempt(1)
    (keeping.folder / "n").write_text("1")
    scene.store.go_on.clear()
    saving = threading.Thread(target=keeping.save, args=(TASK, 1))
    saving.start()
    saving.join(0.5)
    assert keeping.saving, "as long as nobody asks it to leave it waits"
    scene.leaving.set()
    saving.join(30)
    assert not saving.is_alive()
    assert not keeping.saving
    scene.store.go_on.set()


def test_whoever_the_command_runs_as_may_write_what_was_restored(scene: Scene) -> None:
    first = scene.attempt(1)
    (first.folder / "d").mkdir(mode=0o700)
    (first.folder / "d/n").write_text("1")
    (first.folder / "link").symlink_to("/etc/passwd")
    first.save(TASK, 1)
    folder = scene.attempt(2, open_to_all=True).folder
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, folder / "d", folder / "d/n")}
    assert modes == {"checkpoint": 0o777, "d": 0o777, "n": 0o666}
