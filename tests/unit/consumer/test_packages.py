"""A package is unpacked on the node and its program started there once, whatever becomes of the agent meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from kubeq.core.clock import SystemClock
from kubeq.core.digest import Digest
from kubeq.core.model import NodeName, Pool, PoolId
from kubeq.core.overlay import Laid, Overlay
from kubeq.core.packages import Package
from kubeq.errors import BackendError
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from kubeq.store.blobs import Blobs
from kubeq.store.memory import MemoryStore
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.packages import Packages
from kubeq_consumer.settings import AgentConfig

POOL = PoolId("p")


class Away(Queue):
    """A queue that is out of reach for as many questions as the test says."""

    away = 0

    def packages(self, pool: PoolId) -> Sequence[Package]:
        if self.away:
            self.away -= 1
            raise BackendError("the queue is away", transient=True)
        return super().packages(pool)


class Place:
    """A node's folder, the pool's queue and store, and the lives of the agent there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.queue = Away(MemoryTable(), SystemClock())
        self.blobs = Blobs(MemoryStore())
        self.lives: list[Packages] = []
        self.config = AgentConfig(
            pool=POOL,
            node=NodeName("p-1"),
            number=1,
            provider="local",
            queue_url="memory:",
            store_url="memory:",
            blobs_url="memory:",
            state_dir=root / "state",
            cache_dir=root / "cache",
            log_path=None,
            grace_s=0.5,
        )

    def inject(self, files: Mapping[str, str], *, name: str = "web", again: bool = False, entry: str = "go") -> int:
        """Its number; every file may be executed."""
        laid = [Laid(path, 0o700, self.blobs.put_bytes(text.encode())) for path, text in files.items()]
        content = self.blobs.put_bytes(Overlay.of(laid).encode())
        pool = Pool(id=POOL, provider="local", private=False, created_at=1.0)
        package = Package(number=0, name=name, content=content, entry=entry)
        return self.queue.add_package(pool, package, again=again).number

    def begin(self) -> Packages:
        """Another life of the agent, whose row names no package yet."""
        life = Packages(
            self.config, self.queue, self.blobs, BlobCache(self.root / "cache", self.blobs), ask_again_s=0.01
        )
        self.lives.append(life)
        life.start()
        life.told(0)
        return life

    def lines(self) -> list[str]:
        path = self.root / "ran"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    for life in one.lives:
        life.stop()


def eventually(question: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not question():
        assert time.monotonic() < deadline, f"not in time: {what}"
        threading.Event().wait(0.01)


def test_what_was_injected_before_the_node_came_is_started_in_order_and_told_where_it_is(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place.inject(
        {"bin/go": "pwd; cat ../data; cat $KUBEQ_PACKAGE/data; echo $KUBEQ_NODE_NAME $KUBEQ_PEERS", "data": "d\n"},
        entry="bin/go",
    )
    place.begin()
    eventually(lambda: "bin/go of package web has ended well" in caplog.messages, "it has ended")
    folder = place.root / "state/nodes/p-1"
    said = [line.removeprefix("web: ") for line in caplog.messages if line.startswith("web: ")]
    assert said == [f"{folder}/packages/1/files/bin", "d", "d", f"p-1 {folder}/peers/nodes.jsonl"]


def test_a_program_is_started_once_a_node_and_again_under_another_number(place: Place) -> None:
    files = {"go": f"#!/bin/sh\necho $0 >> {place.root}/ran\n"}
    first = place.inject(files)
    life = place.begin()
    eventually(lambda: len(place.lines()) == 1, "it has run")
    life.told(first)
    life.stop()
    again = place.inject(files, again=True)
    place.begin()
    eventually(lambda: len(place.lines()) == 2, "it has run again")
    place.lives[-1].stop()
    place.begin().told(again)
    other = place.inject(files, name="other")
    place.lives[-1].told(other)
    eventually(lambda: len(place.lines()) == 3, "only the other one has run")
    assert [line.split("/packages/")[1] for line in place.lines()] == [f"{n}/files/go" for n in (first, again, other)]


def test_a_program_that_runs_is_no_idle_time_and_is_ended_with_the_node(place: Place) -> None:
    ran = place.root / "ran"
    loop = "while :; do sleep 0.05; done"
    place.inject({"go": f"#!/bin/sh\ntrap 'echo ended >> {ran}; exit' TERM\necho began >> {ran}\n{loop}\n"})
    life = place.begin()
    eventually(place.lines, "it runs")
    assert life.busy
    life.stop()
    assert (place.lines(), life.busy, life.trouble) == (["began", "ended"], False, None)


def test_a_failure_is_the_nodes_trouble_and_keeps_no_other_package(place: Place) -> None:
    place.inject({"go": "echo no such library >&2; exit 4"}, name="bad")
    place.inject({"go": f"echo ran >> {place.root}/ran"}, name="good")
    life = place.begin()
    eventually(lambda: place.lines() and life.trouble, "both have ended")
    assert life.trouble == "its package bad failed: exit code 4: no such library"


def test_a_package_that_cannot_be_unpacked_is_started_by_the_next_life(place: Place) -> None:
    number = place.inject({"go": f"echo ran >> {place.root}/ran"})
    kept = place.blobs.read(place.queue.packages(POOL)[0].content)
    place.blobs.delete([Digest.of(kept)])
    life = place.begin()
    eventually(lambda: life.trouble, "it says why")
    assert "its package web failed: the store memory: holds no blobs/" in str(life.trouble)
    life.stop()
    place.blobs.put_bytes(kept)
    half = place.root / f"state/nodes/p-1/packages/{number}/files"
    (half / "left").mkdir(parents=True, exist_ok=True)
    place.begin()
    eventually(place.lines, "it runs now")
    assert [path.name for path in half.iterdir()] == ["go"]


def test_a_queue_that_is_away_is_asked_again(place: Place) -> None:
    place.inject({"go": f"echo ran >> {place.root}/ran"})
    place.queue.away = 3
    place.begin()
    eventually(place.lines, "it has run")
    assert place.queue.away == 0


def test_a_program_that_the_package_does_not_hold_is_not_looked_for_elsewhere(place: Place) -> None:
    (place.root / "state/nodes/p-1/packages").mkdir(parents=True)
    (place.root / "outside").write_text(f"echo ran >> {place.root}/ran")
    place.inject({"go": "true"}, entry="../../../../../../outside")
    life = place.begin()
    eventually(lambda: life.trouble, "it says why")
    assert (life.trouble, place.lines()) == ("its package web failed: it has no '../../../../../../outside'", [])
