"""A provider whose nodes are entries in a dictionary: what was launched, what died and why is the test's to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from kubeq.core.machines import Machines, Offer
from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeRequest, Observation, Owned, Refused


class FakeProvider:
    """A NodeProvider. `dies_of` is what every node that is launched from now on dies of at once."""

    name: ClassVar[str] = "local"
    capabilities: NodeCapabilities = NodeCapabilities(reach=Reach.HOST, costs_money=False)

    def __init__(self) -> None:
        self.requests: list[tuple[NodeName, NodeRequest]] = []
        self.nodes: dict[NodeName, tuple[PoolId, Observation]] = {}
        self.forgotten: list[tuple[PoolId | None, float]] = []
        self.dies_of: str | None = None
        self.refuses: str | None = None

    def largest(self) -> Resources | None:
        return Resources(cpu=4.0, memory=8 * 10**9)

    def offers(self, machines: Machines) -> Sequence[Offer]:
        return ()

    def owned(self) -> Sequence[Owned]:
        return ()

    def console(self, name: NodeName) -> str | None:
        return None

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
        return {}

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
