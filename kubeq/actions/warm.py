"""Why a submission uses machines that are up already, or why it cannot: said, for machines cost money."""

from __future__ import annotations

from dataclasses import fields, replace

from kubeq.actions.session import Session
from kubeq.core.machines import Machines
from kubeq.core.model import NodeState, Pool
from kubeq.core.resources import Resources
from kubeq.core.table_rules import listing

NEWEST = 5
"""Pools that are looked at: each costs a request."""
WORDS = {
    "need": "what a task asks for",
    "types": "the machine types",
    "disk": "the boot disk",
    "disk_kind": "the boot disk's type",
    "tags": "the network tags",
    "ports": "the open ports",
    "lifetime_s": "the lifetime",
    "spot_budget": "the spot budget",
    "private": "the address outside",
}
"""What people call a field of Machines, where that is not its name."""


def why_not_warm(session: Session, pool: Pool) -> str | None:
    """A sentence about machines of another pool that are up, and why they cannot be used; None if there are none."""
    others = [each for each in session.queue.pools() if each.machines is not None and each.id != pool.id]
    for other in sorted(others, key=lambda each: each.created_at)[: -NEWEST - 1 : -1]:
        up = sum(node.state is NodeState.ACTIVE for node in session.queue.peers(other.id))
        if up:
            machines = "1 machine is" if up == 1 else f"{up:,} machines are"
            return f"{machines} up in another pool, which differs in {listing(differences(pool, other))}"
    return None


def differences(one: Pool, other: Pool) -> list[str]:
    """In what the machines of two pools differ, in people's words."""
    found = ["the provider"] if one.provider != other.provider else []
    if one.machines is not None and other.machines is not None:
        a, b = _told(one.machines), _told(other.machines)
        names = [each.name for each in fields(Machines) if getattr(a, each.name) != getattr(b, each.name)]
        found += [WORDS.get(name, f"the {name}") for name in names]
    if one.outfit != other.outfit:
        found.append("what is done before and after the tasks")
    return found or ["its user, its store or kubeq's release"]


def _told(machines: Machines) -> Machines:
    """As the identity of the pool has it: what a task needs does not matter where a single type is named."""
    return replace(machines, need=Resources()) if len(machines.types) == 1 else machines
