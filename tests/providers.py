"""A provider whose nodes are entries in a dictionary: what was launched, what died and why is the test's to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from kubeq.core.machines import Machine, Machines, MachineType, Offer, offers_in_order
from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources, fits
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeRequest, NoMachines, Observation, Owned, Refused


class FakeProvider(NoMachines):
    """A NodeProvider. `dies_of` is what every node that is launched from now on dies of at once."""

    name: ClassVar[str] = "local"
    capabilities: NodeCapabilities = NodeCapabilities(reach=Reach.HOST, costs_money=False)

    def __init__(self) -> None:
        self.requests: list[tuple[NodeName, NodeRequest]] = []
        self.nodes: dict[NodeName, tuple[PoolId, Observation]] = {}
        self.forgotten: list[tuple[PoolId | None, float]] = []
        self.dies_of: str | None = None
        self.refuses: str | None = None
        self.quiet_hosts: dict[str, str] = {}

    def largest(self) -> Resources | None:
        return Resources(cpu=4.0, memory=8 * 10**9)

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        return ()

    def usual(self, tasks: int) -> int:
        return 1

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        if self.refuses is not None:
            return {name: Refused(name=name, reason=self.refuses) for name in names}
        for name in names:
            self.requests.append((name, request))
            seen = Observation(name=name, alive=self.dies_of is None, pid=4711, reason=self.dies_of)
            self.nodes.setdefault(name, (request.pool, seen))
        return {name: Launched(name=name, pid=4711) for name in names}

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        return {name: seen for name, (owner, seen) in self.nodes.items() if owner == pool}

    def silent(self, pool: PoolId) -> Mapping[str, str]:
        return self.quiet_hosts

    def terminate(self, names: Sequence[NodeName]) -> None:
        for name in names:
            if name in self.nodes:
                self.die(name, "terminated")

    def command(self, node: Node, words: Sequence[str], *, terminal: bool) -> list[str]:
        return ["echo", node.name, *words]

    def forget(self, pool: PoolId | None, older_s: float) -> None:
        self.forgotten.append((pool, older_s))

    def die(self, name: NodeName, reason: str | None = None) -> None:
        """The node ends, having printed `reason` last."""
        pool, seen = self.nodes[name]
        self.nodes[name] = pool, replace(seen, alive=False, reason=reason)


class FakeCloud(FakeProvider):
    """One whose nodes are machines. `zones` have what `types` are on offer; `full` are those that have none left.

    `quiet` machines come up and are not seen yet, as with a cloud whose lists are late.
    """

    name: ClassVar[str] = "ec2"
    capabilities: NodeCapabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=True)

    def __init__(self, *types: MachineType, zones: Sequence[str] = ("eu-1a",)) -> None:
        super().__init__()
        self.types = types or (MachineType(name="m.small", resources=Resources(cpu=2.0, memory=8 * 2**30)),)
        self.zones = zones
        self.full: set[str] = set()
        self.quiet = False
        self.unseen: set[NodeName] = set()
        self.consoles: dict[NodeName, str] = {}
        self.owners: dict[NodeName, str] = {}
        self.made_at: float | None = None

    def largest(self) -> Resources | None:
        return None

    def offers(self, machines: Machines) -> Sequence[Offer]:
        a_core = 0.03 if machines.spot else 0.1
        return offers_in_order(
            [
                Offer(
                    type=kind,
                    zone=zone,
                    spot=machines.spot,
                    price=a_core * kind.resources.cpu,
                )
                for kind in self.types
                for zone in self.zones
                if kind.name in (machines.types or [kind.name]) and fits(machines.need, kind.resources)
            ],
            machines.types,
        )

    def boot_text(self, request: NodeRequest, name: NodeName, number: int, machine: Machine) -> str | None:
        assert request.agent is not None
        return f"#!/bin/sh\n# {name} is number {number}, of type {machine.type}, and fetches {request.agent.url}\n"

    def console(self, name: NodeName) -> str | None:
        return self.consoles.get(name)

    def owned(self) -> Sequence[Owned]:
        return [
            Owned(
                name=name,
                pool=pool,
                owner=self.owners[name],
                machine=seen.machine,
                made_at=self.made_at or 0.0,
                state="running",
            )
            for name, (pool, seen) in self.nodes.items()
            if seen.alive and seen.machine is not None
        ]

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        assert request.machines is not None
        offers = [offer for offer in self.offers(request.machines) if offer.zone not in self.full]
        if self.refuses is not None or not offers:
            return {name: Refused(name=name, reason=self.refuses or "no zone has a machine left") for name in names}
        answers: dict[NodeName, Launched | Refused] = {}
        for name in names:
            best = offers[0]
            machine = Machine(id=f"i-{name}", type=best.type.name, zone=best.zone, spot=best.spot, price=best.price)
            self.requests.append((name, request))
            seen = Observation(
                name=name, alive=self.dies_of is None, reason=self.dies_of, machine=machine, made_at=self.made_at
            )
            self.nodes.setdefault(name, (request.pool, seen))
            self.owners[name] = request.owner
            if self.quiet:
                self.unseen.add(name)
            answers[name] = Launched(name=name, machine=machine)
        return answers

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        return {name: seen for name, seen in super().observe(pool).items() if name not in self.unseen}

    def preempt(self, name: NodeName) -> None:
        """The cloud takes the machine back."""
        pool, seen = self.nodes[name]
        self.nodes[name] = pool, replace(seen, alive=False, reason="taken back", preempted=True)
