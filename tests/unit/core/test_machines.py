"""Machines: which offer is tried first, and the records that stand in rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubeq.core import wire
from kubeq.core.machines import Machine, Machines, MachineType, Offer, Volume, offers_in_order, usable
from kubeq.core.model import Node, NodeName, NodeState, Pool, PoolId
from kubeq.core.resources import Resources

MACHINES = Machines(
    region="eu-west-1",
    zones=("eu-west-1a",),
    types=("m5.large",),
    need=Resources(cpu=2.0, memory=4 * 2**30, gpus=1),
    gpus=1,
    gpu="t4",
    spot=True,
    spot_budget=3,
    image="ami-1",
    disk=50 * 2**30,
    disk_kind="gp3",
    volumes=(Volume(path="/data", size=2**40, kind="st1"), Volume(path="/more", size=2**30)),
    network="net",
    subnets=("subnet-1",),
    tags=("sg-1",),
    ports=(5000,),
    identity="role",
    labels=(("team", "blue"),),
    lifetime_s=3600.0,
)


def offer(name: str, price: float | None, cpu: float = 2.0, zone: str = "a") -> Offer:
    return Offer(type=MachineType(name=name, resources=Resources(cpu=cpu)), zone=zone, spot=False, price=price)


def test_without_types_the_cheapest_comes_first_and_those_without_a_price_last() -> None:
    offers = [offer("huge", None, 8), offer("dear", 2.0), offer("small", None, 1), offer("cheap", 1.0)]
    assert [each.type.name for each in offers_in_order(offers, ())] == ["cheap", "dear", "small", "huge"]


def test_types_that_are_named_are_tried_in_that_order_and_each_in_its_cheapest_zone() -> None:
    offers = [offer("b", 1.0), offer("a", 3.0, zone="x"), offer("a", 2.0, zone="y")]
    tried = [(each.type.name, each.zone) for each in offers_in_order(offers, ("a", "b"))]
    assert tried == [("a", "y"), ("a", "x"), ("b", "a")]


@pytest.mark.parametrize("machines", [None, Machines(region="r"), MACHINES])
def test_what_a_pool_asks_of_its_machines_comes_back(machines: Machines | None) -> None:
    pool = Pool(id=PoolId("p"), provider="ec2", private=False, created_at=1.0, machines=machines, numbered_at=2.0)
    assert wire.decode_pool(pool.id, wire.encode_pool(pool)) == pool


@pytest.mark.parametrize(
    "machine",
    [None, Machine(type="t", zone="z", spot=False), Machine(id="i-1", type="t", zone="z", spot=True, price=0.25)],
)
def test_the_machine_of_a_node_comes_back(machine: Machine | None) -> None:
    node = Node(
        name=NodeName("p-1"),
        pool=PoolId("p"),
        number=1,
        provider="ec2",
        state=NodeState.ACTIVE,
        host="h",
        requested_at=1.0,
        machine=machine,
        worked=True,
        begun=True,
    )
    assert wire.decode_node(node.name, wire.encode_node(node)) == node
    fresh = wire.decode_node(node.name, wire.encode_node(replace(node, worked=False, begun=False)))
    assert (fresh.worked, fresh.begun) == (False, False)


def test_a_part_of_a_machines_memory_is_left_to_its_system() -> None:
    big = MachineType(name="big", resources=Resources(cpu=4.0, memory=100 * 2**30))
    small = MachineType(name="small", resources=Resources(cpu=1.0, memory=2**30))
    assert usable(big, 0.05) == Resources(cpu=4.0, memory=95 * 2**30)
    assert usable(small, 0.05) == Resources(cpu=1.0, memory=2**29), "half a GiB at least"
