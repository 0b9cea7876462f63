"""How the answers of `nodes`, `cp` and `inject` look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubeq.cli.output import columns
from kubeq.cli.shown import ago, cell, count, iso
from kubeq.core.model import Node, NodeState
from kubeq.core.quantities import format_duration
from kubeq.core.wire import encode_requests, encode_resources

if TYPE_CHECKING:
    from kubeq.actions.copying import Copied
    from kubeq.actions.injecting import Injected
    from kubeq.actions.nodes import NodeFacts
    from kubeq.actions.orphans import Orphan
    from kubeq.actions.relaying import RelayFacts

HEADER = ("no", "name", "class", "state", "age", "slots", "tasks", "because")
MACHINE_HEADER = (*HEADER[:3], "machine", "zone", "$/hour", *HEADER[3:])
FIELDS = (
    "number", "name", "provider", "class", "pool", "state", "reason", "started_at", "ended_at", "machine_type", "zone",
    "slots", "tasks", "jobs", "address", "pid", "price_per_hour",
)  # fmt: skip
ORPHAN_HEADER = ("name", "state", "machine", "zone", "age", "$/hour", "because")
ORPHAN_FIELDS = (
    "name", "pool", "provider", "state", "machine_type", "zone", "spot", "made_at", "price_per_hour", "machine_id",
    "because",
)  # fmt: skip
SHOWN_TASKS = 4


@dataclass(frozen=True, slots=True)
class NodesView:
    """Nodes, a line each, and the relay if there is one; ages are counted to `now`. `numbered`: with numbers, being of
    one pool.
    """

    nodes: Sequence[NodeFacts]
    now: float
    numbered: bool = False
    relay: RelayFacts | None = None

    def text(self) -> Iterable[str]:
        first = 0 if self.numbered else 1
        machines = any(facts.node.machine is not None for facts in self.nodes)
        header = MACHINE_HEADER if machines else HEADER
        table = columns(header[first:], [self._line(facts, machines)[first:] for facts in self.nodes])
        lines = table if self.nodes else ["no nodes"]
        return lines if self.relay is None else [*lines, "", _relay_line(self.relay, self.now)]

    def json(self) -> Mapping[str, Any]:
        return {"nodes": [_record(facts) for facts in self.nodes], "relay": _relay_record(self.relay)}

    def quiet(self) -> Iterable[str]:
        return [facts.node.name for facts in self.nodes]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return FIELDS, [[_cell(_record(facts)[field]) for field in FIELDS] for facts in self.nodes]

    def _line(self, facts: NodeFacts, machines: bool) -> Sequence[object]:
        node = facts.node
        ended = node.ended_at if node.state is NodeState.GONE and node.ended_at is not None else self.now
        tasks = " ".join(str(task) for task in node.tasks[:SHOWN_TASKS])
        more = f" +{len(node.tasks) - SHOWN_TASKS}" if len(node.tasks) > SHOWN_TASKS else ""
        return (
            node.number,
            node.name,
            class_of(node),
            *(_machine_cells(node) if machines else ()),
            node.state if node.gone is None else f"{node.state} ({node.gone})",
            format_duration(ended - (node.started_at or node.requested_at)),
            "-" if node.total is None else str(node.total),
            tasks + more or "-",
            facts.because or "",
        )


def class_of(node: Node) -> str:
    """Where the node comes from, and whether its machine may be taken back."""
    return f"{node.provider} spot" if node.machine is not None and node.machine.spot else node.provider


def _machine_cells(node: Node) -> Sequence[object]:
    if node.machine is None:
        return "-", "-", "-"
    return node.machine.type, node.machine.zone, "?" if node.machine.price is None else f"{node.machine.price:.4g}"


def _record(facts: NodeFacts) -> dict[str, Any]:
    """A node as JSON has it."""
    node = facts.node
    return {
        "number": node.number,
        "name": node.name,
        "provider": node.provider,
        "class": class_of(node),
        "pool": node.pool,
        "state": node.state,
        "reason": node.gone,
        "started_at": iso(node.started_at),
        "ended_at": iso(node.ended_at),
        "machine_type": node.machine and node.machine.type,
        "zone": node.machine and node.machine.zone,
        "slots": {} if node.total is None else encode_resources(node.total),
        "tasks": [str(task) for task in node.tasks],
        "jobs": sorted({task.job for task in node.tasks}),
        "address": node.address,
        "pid": node.pid,
        "price_per_hour": node.machine and node.machine.price,
        "machine_id": node.machine and node.machine.id,
        "because": facts.because,
        "requests": node.requests and encode_requests(node.requests),
    }


def _relay_line(relay: RelayFacts, now: float) -> str:
    """The relay in words."""
    heard = [at for at in relay.heard_at.values() if at is not None]
    nodes = f"{count(len(relay.heard_at), 'node')} may come through it"
    if relay.started_at is None:
        return f"relay: not running; {nodes}"
    up = f"relay: up {format_duration(now - relay.started_at)}, pid {relay.pid}"
    if relay.silent_since is not None:
        return f"{up}, stopped or hanging for {format_duration(now - relay.silent_since)}; {nodes}"
    if not relay.heard_at:
        return f"{up}; no node needs it any more"
    return f"{up}; {nodes}, " + (f"the last was heard {ago(max(heard), now)}" if heard else "none was heard yet")


def _relay_record(relay: RelayFacts | None) -> dict[str, Any] | None:
    """The relay as JSON has it."""
    if relay is None:
        return None
    return {
        "pid": relay.pid,
        "started_at": iso(relay.started_at),
        "silent_since": iso(relay.silent_since),
        "nodes": [{"name": name, "heard_at": iso(at)} for name, at in sorted(relay.heard_at.items())],
    }


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return " ".join(f"{name}={amount}" for name, amount in value.items() if amount is not None)
    return cell(value)


@dataclass(frozen=True, slots=True)
class CopiedView:
    """The answer of `cp`: each copy with its node."""

    copied: tuple[Copied, ...]

    def text(self) -> Iterable[str]:
        return [f"{each.node}: {each.place if each.error is None else each.error}" for each in self.copied]

    def json(self) -> Mapping[str, Any]:
        return {
            "copied": [{"node": each.node, "path": each.place} for each in self.copied if each.error is None],
            "failed": [{"node": each.node, "error": each.error} for each in self.copied if each.error is not None],
        }

    def quiet(self) -> Iterable[str]:
        return [each.place for each in self.copied if each.error is None]


@dataclass(frozen=True, slots=True)
class InjectedView:
    """The answer of `inject`."""

    injected: Injected

    def text(self) -> Iterable[str]:
        package, nodes = self.injected.package, self.injected.nodes
        what = f"package {package.name} ({package.entry})"
        if not self.injected.new:
            return [f"{what} is there already; it is started once a node, and again with --again"]
        if not nodes:
            return [f"{what} is started on every node that comes; there is none now: kubeq pool up starts one"]
        return [f"{what} is started on {count(len(nodes), 'node')}, and on every one that comes: {', '.join(nodes)}"]

    def json(self) -> Mapping[str, Any]:
        package = self.injected.package
        return {
            "package": package.name,
            "number": package.number,
            "entry": package.entry,
            "new": self.injected.new,
            "nodes": list(self.injected.nodes),
        }

    def quiet(self) -> Iterable[str]:
        return self.injected.nodes


@dataclass(frozen=True, slots=True)
class OrphansView:
    """The answer of `nodes --orphans`: machines that nobody needs, with what they cost; ages are counted to `now`."""

    orphans: Sequence[Orphan]
    now: float

    def text(self) -> Iterable[str]:
        if not self.orphans:
            return ["no machine of yours is up that no job needs"]
        prices = [orphan.owned.machine.price for orphan in self.orphans]
        known = [price for price in prices if price is not None]
        more = f" and what {count(len(prices) - len(known), 'machine')} of unknown price cost" * (
            len(known) < len(prices)
        )
        foreign = any(orphan.foreign for orphan in self.orphans)
        hint = f"kubeq nodes --orphans --stop all ends {'those of this queue' if foreign else 'them'}"
        return [*columns(ORPHAN_HEADER, map(self._line, self.orphans)), f"${sum(known):.4g} an hour{more}; {hint}"]

    def json(self) -> Mapping[str, Any]:
        return {"orphans": [self._record(orphan) for orphan in self.orphans]}

    def quiet(self) -> Iterable[str]:
        return [orphan.owned.name for orphan in self.orphans]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return ORPHAN_FIELDS, [
            [cell(self._record(orphan)[field]) for field in ORPHAN_FIELDS] for orphan in self.orphans
        ]

    def _line(self, orphan: Orphan) -> Sequence[object]:
        owned = orphan.owned
        price = "?" if owned.machine.price is None else f"{owned.machine.price:.4g}"
        kind = f"{owned.machine.type}{' spot' if owned.machine.spot else ''}"
        return (
            owned.name,
            owned.state,
            kind,
            owned.machine.zone,
            format_duration(self.now - owned.made_at),
            price,
            orphan.why,
        )

    def _record(self, orphan: Orphan) -> dict[str, Any]:
        owned, machine = orphan.owned, orphan.owned.machine
        return {
            "name": owned.name,
            "pool": owned.pool,
            "provider": orphan.provider.name,
            "state": owned.state,
            "machine_type": machine.type,
            "zone": machine.zone,
            "spot": machine.spot,
            "made_at": iso(owned.made_at),
            "price_per_hour": machine.price,
            "machine_id": machine.id,
            "because": orphan.why,
        }
