"""What the nodes of one call may be, and what of it is refused before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.launching import (
    SEEN_RECENTLY_S,
    add_nodes,
    ensure_nodes,
    fleet_now,
    number_missing,
    observe_pool,
    pool_of_request,
)
from kubeq.actions.session import Session
from kubeq.actions.starting import AS_THE_POOL, start_numbered
from kubeq.actions.targets import wished_for_missing
from kubeq.actions.tending import tending_of
from kubeq.actions.wishes import Asked, check_asked, wished
from kubeq.core.machines import MachineType
from kubeq.core.model import GoneReason, NodeName, Pool, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.errors import BackendError, UsageError
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeProvider, NodeRequest, Observation, Refused
from kubeq.queue.queue import Queue
from kubeq.queue.rows import POOLS
from tests.jobs import FakeClock, MemorySession, Work, session_in
from tests.providers import FakeCloud, FakeProvider
from tests.unit.actions.test_machines import FAR, configured

LARGE = MachineType(name="m.large", resources=Resources(cpu=8.0, memory=32 * 2**30))
SMALL = MachineType(name="m.small", resources=Resources(cpu=2.0, memory=8 * 2**30))


class Lab:
    """The hosts that there are in the world: which node is on which, and why some cannot be used."""

    def __init__(self) -> None:
        self.on: dict[str, NodeName] = {}
        self.broken: dict[str, str] = {}
        self.silent: dict[str, str] = {}


class LabHosts(FakeProvider):
    """Some of the lab's hosts, each for one node."""

    name = "ssh"
    capabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=False)

    def __init__(self, lab: Lab, lines: Sequence[str]) -> None:
        super().__init__()
        self.lab = lab
        self.hosts = [line.split()[0] for line in lines]

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        return [HostSeen(name=host, address=host, problem=self.lab.broken.get(host)) for host in self.hosts]

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        hidden = {self.lab.on[host] for host in self.lab.silent if host in self.lab.on}
        return {name: seen for name, seen in super().observe(pool).items() if name not in hidden}

    def silent(self, pool: PoolId) -> Mapping[str, str]:
        return {host: self.lab.silent[host] for host in self.hosts if host in self.lab.silent}

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        free = [host for host in self.hosts if host not in self.lab.on and host not in self.lab.broken]
        chosen = dict(zip(free, names, strict=False))
        self.lab.on |= chosen
        started = super().launch(request, {name: names[name] for name in chosen.values()})
        return dict(started) | {
            name: Refused(name=name, reason="no host is free") for name in names if name not in started
        }


class LabSession(MemorySession):
    """A session to which the lab's hosts are all the hosts there are."""

    lab: Lab

    def _open_provider(self, name: str, hosts: tuple[str, ...], region: str | None) -> NodeProvider:
        return LabHosts(self.lab, hosts) if name == "ssh" else super()._open_provider(name, hosts, region)


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def near(tmp_path: Path, clock: FakeClock, lab: Lab) -> Session:
    """A session whose nodes are on the hosts a and b."""
    plain = session_in(tmp_path, clock, LabSession)
    places = {name: FAR[name] for name in FAR if name not in ("provider", "region")}
    config = replace(plain.config, provider="ssh", hosts=("a", "b"), **places)  # type: ignore[arg-type]
    session = LabSession(config, clock)
    vars(session).update(table=plain.table, store=plain.store, inputs_store=plain.inputs_store, lab=lab)
    return session


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud(SMALL, LARGE)


@pytest.fixture
def far(session: Session, cloud: FakeCloud) -> Session:
    return configured(session, cloud)


def said_nothing(sentence: str) -> None:
    raise AssertionError(sentence)


# -- machines ---------------------------------------------------------------------------------------------------------


def test_machines_of_one_call_are_of_another_type_and_class_in_the_same_pool(far: Session, cloud: FakeCloud) -> None:
    pool = pool_of_request(far, private=False)
    ensure_nodes(far, pool)
    same, wish = wished(far, pool, Asked(types=("m.large",), spot=True), said_nothing)
    assert same == pool
    add_nodes(far, pool, 2, wish=wish)
    add_nodes(far, pool, 1)
    made = [(node.machine.type, node.machine.spot) for node in far.queue.peers(pool.id) if node.machine]
    assert sorted(made) == [("m.large", True), ("m.large", True), ("m.small", False), ("m.small", False)]
    standing = far.queue.pool(pool.id)
    assert standing is not None
    assert standing.machines == pool.machines


def test_spot_machines_that_a_user_asks_for_are_spot_whatever_was_taken_back(
    session: Session, cloud: FakeCloud, work: Work, clock: FakeClock
) -> None:
    far = configured(session, cloud, spot=True, spot_budget=1)
    pool = pool_of_request(far, private=False)
    (name,) = add_nodes(far, pool, 1)
    work.report_node(name=name, pool=pool.id)
    cloud.preempt(name)
    clock.advance(5)
    assert fleet_now(far, pool).preempted == 1
    add_nodes(far, pool, 1)
    _, wish = wished(far, pool, Asked(spot=True), said_nothing)
    add_nodes(far, pool, 1, wish=wish)
    _, ordinary = wished(far, pool, Asked(spot=False), said_nothing)
    add_nodes(far, pool, 1, wish=ordinary)
    assert [request.machines.spot for _, request in cloud.requests if request.machines] == [True, False, True, False]


@pytest.mark.parametrize("asked", [Asked(types=("m.large",)), Asked(spot=True), Asked(spot=False)])
def test_what_is_about_machines_is_refused_for_a_pool_without_any(
    session: Session, near: Session, asked: Asked
) -> None:
    with pytest.raises(UsageError, match="agents on this machine"):
        check_asked(session, pool_of_request(session, private=False), asked)
    with pytest.raises(UsageError, match="on hosts of your own"):
        check_asked(near, pool_of_request(near, private=False), asked)


def test_nothing_asked_is_nothing_wished(near: Session, far: Session) -> None:
    for session in (near, far):
        pool = pool_of_request(session, private=False)
        assert wished(session, pool, Asked(), said_nothing) == (pool, AS_THE_POOL)


# -- hosts ------------------------------------------------------------------------------------------------------------


def test_nodes_of_one_call_are_on_the_hosts_that_it_names_and_the_pool_grows_by_them(near: Session, lab: Lab) -> None:
    pool = pool_of_request(near, private=False)
    ensure_nodes(near, pool)
    assert list(lab.on) == ["a"]
    said: list[str] = []
    grown, wish = wished(near, pool, Asked(hosts=("c,d",)), said.append)
    assert [line.split()[0] for line in grown.hosts] == ["a", "b", "c", "d"]
    assert add_nodes(near, grown, 1, said.append, wish=wish) == (NodeName(f"{pool.id}-2"),)
    assert lab.on["c"] == NodeName(f"{pool.id}-2")
    assert add_nodes(near, grown, 2, said.append, wish=wish) == (NodeName(f"{pool.id}-3"),)
    assert said == ["no node: no host is free"], "host b is free, and was not named"
    assert "b" not in lab.on
    other = LabSession(near.config, near.clock)
    vars(other).update(table=near.table, store=near.store, inputs_store=near.inputs_store, lab=lab)
    assert other.provider_of(pool.id).usual(9) == near.provider_of(pool.id).usual(9) == 1
    assert isinstance(other.provider_of(pool.id), LabHosts)
    assert other.provider_of(pool.id).hosts == ["a", "b", "c", "d"]  # type: ignore[attr-defined]


def test_running_nodes_do_not_hear_of_it(near: Session, lab: Lab) -> None:
    pool = pool_of_request(near, private=False)
    (name,) = ensure_nodes(near, pool)
    before = near.provider_of(pool.id).observe(pool.id)
    Work(near, near.clock).report_node(name=name, pool=pool.id)  # type: ignore[arg-type]
    row = near.queue.peers(pool.id)
    wished(near, pool, Asked(hosts=("c",)), said_nothing)
    assert (near.queue.peers(pool.id), before[name].alive) == (row, True)
    assert observe_pool(near, pool.id).live == (name,)


def test_a_host_that_cannot_be_used_stays_out_and_is_told(near: Session, lab: Lab) -> None:
    pool = pool_of_request(near, private=False)
    lab.broken["c"] = "c: nobody answers"
    said: list[str] = []
    grown, _ = wished(near, pool, Asked(hosts=("c", "d")), said.append)
    assert [line.split()[0] for line in grown.hosts] == ["a", "b", "d"]
    assert said == ["c: nobody answers; it is left out"]


def test_without_any_usable_host_nothing_changes(near: Session, lab: Lab) -> None:
    pool = pool_of_request(near, private=False)
    lab.broken |= {"c": "c: nobody answers", "d": "d: its disk is full"}
    with pytest.raises(BackendError, match="none of these hosts can be used: c: nobody answers, d: its disk is full"):
        wished(near, pool, Asked(hosts=("c", "d")), said_nothing)
    assert near.queue.pool(pool.id) is None


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        (("b slots=2x",), "is wrong"),
        (("c,c",), "is there already"),
        (("ada@-x",), "is wrong"),
    ],
)
def test_a_list_that_is_wrong_changes_nothing(near: Session, hosts: tuple[str, ...], why: str) -> None:
    pool = pool_of_request(near, private=False)
    with pytest.raises(UsageError, match=why):
        wished(near, pool, Asked(hosts=hosts), said_nothing)
    assert near.queue.pool(pool.id) is None


def test_a_key_that_is_not_there_is_told_before_anything_is_asked(near: Session, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"c key={tmp_path}/none\n")
    with pytest.raises(UsageError, match="does not exist"):
        wished(near, pool_of_request(near, private=False), Asked(hosts=(str(hosts),)), said_nothing)


def test_a_host_of_the_pool_is_no_second_one_and_none_under_its_name_joins(near: Session, tmp_path: Path) -> None:
    pool = pool_of_request(near, private=False)
    grown, _ = wished(near, pool, Asked(hosts=("b",)), said_nothing)
    assert grown.hosts == pool.hosts
    hosts = tmp_path / "hosts"
    hosts.write_text("a slots=3\n")
    with pytest.raises(UsageError, match=r"these hosts cannot be added: .*is there already"):
        wished(near, pool, Asked(hosts=(str(hosts),)), said_nothing)


@pytest.mark.parametrize("joined", ["before", "meanwhile"])
def test_nodes_go_on_by_themselves_where_no_host_answers_also_of_a_pool_that_has_grown(
    near: Session, lab: Lab, clock: FakeClock, joined: str
) -> None:
    pool = pool_of_request(near, private=False)
    other = LabSession(near.config, clock)
    vars(other).update(table=near.table, store=near.store, inputs_store=near.inputs_store, lab=lab)
    if joined == "before":
        wished(other, pool, Asked(hosts=("c",)), said_nothing)
    work, said = Work(near, clock), list[str]()
    job = work.submit([("1",), ("2",)], ["n"], pool=pool.id)
    ensure_nodes(near, pool, 1, job=job)
    tending = tending_of(near, job, said.append)
    if joined == "meanwhile":
        wished(other, pool, Asked(hosts=("c",)), said_nothing)
    work.report_node(name=NodeName(f"{pool.id}-1"), pool=pool.id, address="c")
    clock.advance(SEEN_RECENTLY_S + 1)
    lab.silent = dict.fromkeys("abc", "the network is unreachable")
    nodes = observe_pool(near, pool.id)
    assert nodes.unseen == (NodeName(f"{pool.id}-1"),)
    tending(job, near.queue.outcomes(job.id), nodes)
    assert said == ["its nodes go on by themselves while they cannot be reached: the network is unreachable"]


def test_two_clients_that_add_hosts_at_the_same_time_add_both(near: Session, lab: Lab) -> None:
    pool = pool_of_request(near, private=False)
    look = LabHosts.look

    class Busy(LabHosts):
        """Somebody else's host joins while these are looked at."""

        def look(self, pool_id: PoolId) -> Sequence[HostSeen]:
            near.queue.set_hosts(pool, lambda standing: (*standing, "e name=e"))
            return look(self, pool_id)

    class BusySession(LabSession):
        def _open_provider(self, name: str, hosts: tuple[str, ...], region: str | None) -> NodeProvider:
            return Busy(self.lab, hosts)

    busy = BusySession(near.config, near.clock)
    vars(busy).update(table=near.table, store=near.store, inputs_store=near.inputs_store, lab=lab)
    grown, _ = wished(busy, pool, Asked(hosts=("c",)), said_nothing)
    assert [line.split()[0] for line in grown.hosts] == ["a", "b", "e", "c"]


def test_hosts_are_refused_where_nodes_are_on_this_machine_and_beside_machines_of_a_cloud(
    session: Session, far: Session
) -> None:
    with pytest.raises(UsageError, match="agents on this machine, so no other host can join"):
        check_asked(session, pool_of_request(session, private=False), Asked(hosts=("c",)))
    with pytest.raises(UsageError, match="--hosts goes neither with -m nor with --spot"):
        check_asked(far, pool_of_request(far, private=False), Asked(hosts=("c",), spot=True))


def test_what_is_wished_of_nodes_of_which_none_is_missing_is_refused_and_no_host_joins_for_it(
    near: Session, clock: FakeClock
) -> None:
    pool = pool_of_request(near, private=False)
    job = Work(near, clock).submit([("1",), ("2",), ("3",)], ["n"], pool=pool.id)
    ensure_nodes(near, pool)
    with pytest.raises(UsageError, match=r"no node would be started for job .* now"):
        wished_for_missing(near, pool, job, 1, Asked(hosts=("c",)), said_nothing)
    assert wished_for_missing(near, pool, job, 1, Asked(), said_nothing) == (pool, AS_THE_POOL, 0)
    standing = near.queue.pool(pool.id)
    assert standing is not None
    assert standing.hosts == pool.hosts
    grown, wish, missing = wished_for_missing(near, pool, job, 2, Asked(hosts=("c",)), said_nothing)
    assert (len(grown.hosts), missing) == (3, 1)
    assert wish.hosts is not None


def test_a_type_and_spot_are_refused_too_where_no_machine_is_missing(far: Session, clock: FakeClock) -> None:
    pool = pool_of_request(far, private=False)
    job = Work(far, clock).submit([("1",), ("2",)], ["n"], pool=pool.id)
    ensure_nodes(far, pool)
    for asked in (Asked(types=("m.large",)), Asked(spot=True), Asked(spot=False)):
        with pytest.raises(UsageError, match="are about new nodes only"):
            wished_for_missing(far, pool, job, 1, asked, said_nothing)
    assert wished_for_missing(far, pool, job, 2, Asked(spot=True), said_nothing)[2] == 1


def test_hosts_may_join_a_pool_of_machines_and_none_that_fails_is_waited_for(
    near: Session, lab: Lab, cloud: FakeCloud, clock: FakeClock
) -> None:
    config = replace(near.config, provider="ec2", region="eu-1", hosts=())
    mixed = LabSession(config, clock)
    vars(mixed).update(table=near.table, store=near.store, inputs_store=near.inputs_store, lab=lab, provider=cloud)
    pool = pool_of_request(mixed, private=False)
    ensure_nodes(mixed, pool)
    grown, wish = wished(mixed, pool, Asked(hosts=("c",)), said_nothing)
    said: list[str] = []
    started = start_numbered(mixed, grown, number_missing(mixed, grown, 3), said.append, wish)
    assert started == (NodeName(f"{pool.id}-2"),)
    assert (len(cloud.requests), said) == (1, ["no node: no host is free"])
    rows = {node.number: node for node in mixed.queue.peers(pool.id)}
    assert rows[3].gone is GoneReason.NEVER_STARTED
    assert rows[3].machine is None
    assert mixed.hosts_of(pool.id) is not None, "from now on they are used first"


def test_a_pool_that_was_removed_meanwhile_is_said(near: Session) -> None:
    pool = pool_of_request(near, private=False)

    class Removing(Queue):
        def make_pool(self, pool: Pool) -> bool:
            return False

    with pytest.raises(BackendError, match="was removed while hosts were being added"):
        Removing(near.table, near.clock).set_hosts(pool, lambda standing: standing)
    assert not near.table.list(POOLS, None, 10).rows
