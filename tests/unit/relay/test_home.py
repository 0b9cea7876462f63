"""One relay a state folder: finding it, becoming it, and ending when nobody needs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import kubeq
from kubeq.core.model import Node, NodeName, NodeState, PoolId
from kubeq.errors import BackendError
from kubeq.queue.queue import Queue
from kubeq.relay.admissions import Backplane, Guest, write_private
from kubeq.relay.home import RelayHome, Sight
from kubeq.relay.service import Relay
from kubeq.relay.starting import begin_relay, ensure_relay
from kubeq.relay.upkeep import COMING_S, KEPT_S, WAITED_FOR_S, Upkeep
from kubeq.store.memory import MemoryStore
from tests.jobs import FakeClock
from tests.relays import POOL
from tests.unit.relay.conftest import House

NODE = NodeName("p-1")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder at a path that is too long for a socket's address; no relay of it is left."""
    folder = tmp_path / ("long" * 30) / "state"
    yield folder
    record = RelayHome(folder).record()
    if record is not None:
        os.kill(record.mark.pid, signal.SIGKILL)


def guest(state: Path, node: NodeName = NODE) -> Guest:
    here = Backplane(queue_url=f"sqlite:{state}/queue.db", store_url=f"file://{state}/store", blobs_url="memory:")
    return Guest(node=node, pool=POOL, number=1, provider="local", place=node, backplane=here)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] in "ZX"


def eventually(question: object, what: str) -> None:
    assert callable(question)
    deadline = time.monotonic() + 30
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_relay_is_started_once_and_found_again(state: Path) -> None:
    RelayHome(state).admissions.admit(guest(state), now=time.time())
    with ThreadPoolExecutor(4) as threads:
        records = list(threads.map(lambda _: ensure_relay(state), range(4)))
    assert len({record.mark for record in records}) == 1
    assert ensure_relay(state) == records[0]
    assert records[0].version == kubeq.__version__
    assert begin_relay(state) is None
    again = subprocess.run([sys.executable, "-m", "kubeq.relay", str(state)], env=environment(), timeout=60)
    assert again.returncode == 0, "another one ends at once"
    assert RelayHome(state).record() == records[0]


def test_a_relay_that_crashed_leaves_nothing_in_the_way_of_the_next(state: Path) -> None:
    home = RelayHome(state)
    home.admissions.admit(guest(state), now=time.time())
    first = ensure_relay(state)
    os.kill(first.mark.pid, signal.SIGKILL)
    eventually(lambda: home.record() is None, "a dead relay is none")
    assert home.socket.exists(), "what a crash leaves"
    second = ensure_relay(state)
    assert second.mark != first.mark


def test_a_relay_of_another_kubeq_is_replaced(state: Path) -> None:
    home = RelayHome(state)
    home.admissions.admit(guest(state), now=time.time())
    old = ensure_relay(state)
    record = (home.folder / "relay.json").read_text()
    write_private(home.folder / "relay.json", record.replace(kubeq.__version__, "0.0.0").encode())
    new = ensure_relay(state)
    assert new.mark != old.mark
    assert new.version == kubeq.__version__
    eventually(lambda: gone(old.mark.pid), "the old one has ended")


def test_a_relay_that_is_asked_to_end_leaves_no_trace_of_itself(state: Path) -> None:
    home = RelayHome(state)
    home.admissions.admit(guest(state), now=time.time())
    record = ensure_relay(state)
    os.kill(record.mark.pid, signal.SIGTERM)
    eventually(lambda: gone(record.mark.pid), "it ends")
    assert home.record() is None
    assert not home.socket.exists()


def test_a_relay_whose_folder_was_removed_ends(state: Path) -> None:
    home = RelayHome(state)
    record = ensure_relay(state)
    for path in sorted(home.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    eventually(lambda: gone(record.mark.pid), "it ends")


def test_a_relay_that_cannot_come_up_says_why(tmp_path: Path) -> None:
    state = tmp_path / "state"
    home = RelayHome(state)
    with home.turn():
        pass
    home.socket.mkdir()
    with pytest.raises(BackendError, match="cannot listen at"):
        ensure_relay(state)


def test_everything_of_the_relay_is_its_users_alone(state: Path) -> None:
    home = RelayHome(state)
    home.admissions.admit(guest(state), now=time.time())
    ensure_relay(state)
    folders = [path for path in (home.folder, *home.folder.rglob("*")) if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert home.socket.stat().st_mode & 0o077 == 0


def test_what_a_record_says_is_not_believed_once_it_is_cut_short(tmp_path: Path) -> None:
    home = RelayHome(tmp_path)
    with home.turn():
        home.write_record(started_at=1.0, version="1")
        home.write_sight(Sight(at=2.0, heard_at={NODE: 1.5}))
    assert home.sight() == Sight(at=2.0, heard_at={NODE: 1.5})
    for name in ("relay.json", "seen.json"):
        path = home.folder / name
        whole = path.read_text()
        for length in range(0, len(whole), 7):
            path.write_text(whole[:length])
            assert home.record() is None or name == "seen.json"
            assert home.sight() is None or name == "relay.json"
        path.write_text(whole)
    assert home.record() is not None


def test_only_one_process_has_the_life_of_a_relay(tmp_path: Path) -> None:
    home = RelayHome(tmp_path)
    with home.turn():
        life = home.take_life()
        assert life is not None
        assert home.take_life() is None
        assert home.is_taken()
        os.close(life)
        assert not home.is_taken()


def environment() -> dict[str, str]:
    root = Path(kubeq.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": f"{root}:{root / 'consumer'}"}


# -- whether it is needed ---------------------------------------------------------------------------------------------


class Needs:
    """A relay's upkeep over a house's queue, with the clock of the test."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.home = RelayHome(folder)
        self.relay = Relay(
            self.home.admissions, house.clock, table=lambda url: house.table, store=lambda url: MemoryStore()
        )
        self.upkeep = Upkeep(self.relay, self.home, house.clock)
        self.queue: Queue = house.queue

    def admit(self, name: str, pool: PoolId = POOL) -> None:
        one = replace(guest(Path("/x"), NodeName(name)), pool=pool)
        token = self.home.admissions.admit(one, now=self.house.clock.now())
        self.come = lambda: self.relay.desk(token)

    def report(self, state: NodeState) -> None:
        self.queue.report(Node(name=NODE, pool=POOL, number=1, provider="x", state=state, host="h", requested_at=1.0))

    def needed(self) -> bool:
        return self.upkeep.is_needed()


@pytest.fixture
def needs(house: House, tmp_path: Path) -> Needs:
    return Needs(house, tmp_path / "needs")


def test_a_relay_without_nodes_is_not_needed(needs: Needs) -> None:
    assert not needs.needed()


def test_a_node_that_was_just_admitted_is_waited_for(needs: Needs, clock: FakeClock) -> None:
    needs.admit(NODE)
    assert needs.needed()
    clock.advance(COMING_S + 1)
    assert not needs.needed()


def test_a_node_that_is_heard_needs_the_relay_even_without_a_job(needs: Needs, clock: FakeClock) -> None:
    needs.admit(NODE)
    clock.advance(COMING_S + 1)
    needs.come()
    clock.advance(COMING_S - 1)
    assert needs.needed()


def test_a_silent_node_is_waited_for_while_its_pool_has_a_job(needs: Needs, house: House, clock: FakeClock) -> None:
    job = house.submit(1)
    needs.admit(NODE)
    clock.advance(WAITED_FOR_S - 1)
    assert needs.needed()
    house.queue.cancel_job(job)
    assert not needs.needed()
    house.submit(1)
    clock.advance(2)
    assert not needs.needed(), "its agent has given up long ago"


def test_a_job_of_another_pool_needs_nobody_here(needs: Needs, house: House, clock: FakeClock) -> None:
    house.submit(1, pool=PoolId("other"))
    needs.admit(NODE)
    clock.advance(COMING_S + 1)
    assert not needs.needed()


def test_a_node_that_says_it_is_gone_is_let_go_and_forgotten_in_the_end(needs: Needs, clock: FakeClock) -> None:
    needs.admit(NODE)
    needs.report(NodeState.ACTIVE)
    assert needs.needed()
    needs.report(NodeState.GONE)
    assert not needs.needed()
    (known,) = needs.home.admissions.every()
    assert known.revoked_at == clock.now()
    clock.advance(KEPT_S + 1)
    assert not needs.needed()
    assert needs.home.admissions.every() == []


def test_an_admission_that_cannot_be_read_is_an_error_and_not_a_stranger(needs: Needs) -> None:
    needs.admit(NODE)
    path = needs.home.folder / "nodes" / f"{NODE}.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(BackendError, match="cannot be read"):
        needs.home.admissions.every()
