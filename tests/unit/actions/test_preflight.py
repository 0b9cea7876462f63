"""What is made certain before anything is stored, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import pytest

from kubeq.actions.images import resolve_elsewhere, resolve_image
from kubeq.actions.plan import Plan, make_plan
from kubeq.actions.preflight import Passed, preflight, resolver_of
from kubeq.actions.session import Session
from kubeq.config import with_flags
from kubeq.core.model import Reach
from kubeq.errors import AccessDenied, BackendError, ImageUnavailable, KubeqError
from kubeq.nodes.base import NodeCapabilities
from kubeq.queue.base import Cursor, Page, Partition
from kubeq.queue.memory import MemoryTable
from kubeq.store.memory import MemoryStore
from tests.jobs import FakeClock, session_in
from tests.providers import FakeProvider

PINNED = "python@sha256:" + "ab" * 32


class FarTable(MemoryTable):
    """A queue over the network, whose clock is `offset` seconds ahead."""

    reach = Reach.NETWORK
    offset = 0.0
    refuses: BackendError | None = None

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        if self.refuses is not None:
            raise self.refuses
        return super().due(partition, before, after, limit)

    def clock_offset(self) -> float:
        return self.offset


class FarStore(MemoryStore):
    """A store over the network that may refuse to be written."""

    reach = Reach.NETWORK
    refuses: BackendError | None = None

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        if self.refuses is not None:
            raise self.refuses
        return super().put(key, open, size, sha256)


class FarProvider(FakeProvider):
    """Nodes that are other machines."""

    capabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=False)


class World:
    """A session with queue and store over the network."""

    def __init__(self, root: Path, clock: FakeClock, **flags: str | bool) -> None:
        plain = session_in(root, clock, Session)
        self.session = Session(with_flags(plain.config, flags), clock)
        self.table, self.store = FarTable(), FarStore()
        self.session.table = self.table  # type: ignore[misc]
        self.session.store = self.store  # type: ignore[misc]
        self.session.provider = FakeProvider()  # type: ignore[misc]

    @property
    def plan(self) -> Plan:
        return make_plan(("true",), self.session.config, self.session.provider)

    def requests(self) -> Mapping[str, int]:
        return dict(Counter(self.table.requests) + Counter(self.store.requests))


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock) -> World:
    return World(tmp_path, clock)


def pinned(image: str) -> str:
    return PINNED


def test_what_has_passed_is_told_and_nothing_is_left(world: World) -> None:
    ready = preflight(world.session, world.plan, pinned)
    assert (ready.pinned, ready.warnings) == (PINNED, ())
    assert ready.passed[-3:] == (
        Passed(check="image", thing=PINNED),
        Passed(check="queue", thing=world.session.config.queue_url),
        Passed(check="store", thing="memory:"),
    )
    assert list(world.store.list("")) == []


def test_it_costs_one_look_at_the_queue_and_one_object_of_the_store(world: World) -> None:
    preflight(world.session, world.plan, pinned)
    assert world.requests() == {"read": 1, "put": 1, "delete": 1}


def test_inputs_that_lie_elsewhere_cost_as_much_again(world: World) -> None:
    elsewhere = FarStore()
    world.session.inputs_store = elsewhere  # type: ignore[misc]
    preflight(world.session, world.plan, pinned)
    assert dict(elsewhere.requests) == {"put": 1, "delete": 1}


def test_what_is_on_this_machine_is_not_asked(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path, clock)
    session.provider = FakeProvider()  # type: ignore[misc]
    preflight(session, make_plan(("true",), session.config, session.provider), pinned)
    assert not session.table.requests and not session.store.requests


@pytest.mark.parametrize("what", ["queue", "store", "image"])
@pytest.mark.parametrize(
    "error",
    [
        AccessDenied("you may not", hint="log in"),
        BackendError("it does not exist", hint="kubeq setup makes it"),
        ImageUnavailable("no such image"),
    ],
)
def test_what_is_in_the_way_is_told_before_anything_is_stored(world: World, what: str, error: BackendError) -> None:
    def refuse(image: str) -> str:
        raise error

    world.table.refuses = error if what == "queue" else None
    world.store.refuses = error if what == "store" else None
    with pytest.raises(KubeqError) as caught:
        preflight(world.session, world.plan, refuse if what == "image" else pinned)
    assert caught.value is error
    assert list(world.store.list("")) == []
    assert "write" not in world.table.requests
    assert not world.session.config.state_dir.exists()


@pytest.mark.parametrize(("offset", "said"), [(47.0, "47 s behind"), (-3600.0, "3600 s ahead of"), (30.0, "")])
def test_a_clock_that_is_wrong_is_told(world: World, offset: float, said: str) -> None:
    world.table.offset = offset
    warnings = preflight(world.session, world.plan, pinned).warnings
    assert said in " ".join(warnings) if said else warnings == ()


def test_an_image_that_only_nodes_can_look_up_is_told(world: World) -> None:
    ready = preflight(world.session, world.plan, lambda image: None)
    assert ready.pinned is None
    assert "the first node that has it decides" in ready.warnings[0]


def test_without_a_container_no_image_is_asked_for(tmp_path: Path, clock: FakeClock) -> None:
    world = World(tmp_path, clock, image="none")
    ready = preflight(world.session, world.plan)
    assert ready.pinned is None and ready.warnings == ()


def test_an_image_is_asked_of_this_machines_engine_where_the_nodes_are_here(tmp_path: Path, clock: FakeClock) -> None:
    assert resolver_of(World(tmp_path, clock).session) is resolve_image
    by_hand = World(tmp_path, clock, prepare=True).session
    assert resolver_of(by_hand) is resolve_elsewhere, "the agent may be started on any machine"
    embedded = session_in(tmp_path, clock)
    by_hand_here = Session(with_flags(embedded.config, {"prepare": True}), clock)
    assert resolver_of(by_hand_here) is resolve_image
    far = World(tmp_path, clock).session
    far.provider = FarProvider()  # type: ignore[misc]
    assert resolver_of(far) is resolve_elsewhere
