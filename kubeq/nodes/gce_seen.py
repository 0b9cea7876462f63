"""What is read from an instance of Compute Engine: what it is, how it does, whose it is, and where it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from kubeq.core.machines import Machine, MachineType
from kubeq.core.model import NodeName, PoolId
from kubeq.core.resources import Resources
from kubeq.nodes.base import Observation, Owned
from kubeq.nodes.gce_api import last
from kubeq.nodes.gce_client import compute
from kubeq.nodes.gce_instances import PREEMPTED
from kubeq.nodes.gce_names import ENDING, KEYS, LIVE, OWNER, POOL, node_of
from kubeq.nodes.gce_types import price_of
from kubeq.nodes.prices import Price


def machine_of(instance: compute.Instance, price: Price) -> Machine:
    """The machine that an instance is."""
    zone, kind = last(instance.zone), last(instance.machine_type)
    spot = instance.scheduling.provisioning_model == "SPOT"
    cards = [(last(one.accelerator_type), one.accelerator_count) for one in instance.guest_accelerators]
    gpu, gpus = cards[0] if cards else (None, 0)
    what = MachineType(name=kind, resources=Resources(), gpus=gpus, gpu=gpu)
    cost = price_of(what, zone.rpartition("-")[0], spot, price)
    return Machine(id=str(instance.id), type=kind, zone=zone, spot=spot, price=cost)


def observation_of(instance: compute.Instance, price: Price) -> Observation:
    """What is to be said of an instance."""
    alive = instance.status in LIVE
    state = f"the instance is {instance.status.lower()}"
    reason = None if alive else instance.status_message or state
    return Observation(
        name=node_of(instance.name),
        alive=alive,
        reason=reason,
        address=address_of(instance),
        machine=machine_of(instance, price),
        made_at=made_at(instance),
        ending=instance.status in ENDING,
    )


def after(seen: Mapping[NodeName, Observation], node: NodeName, fate: compute.Operation) -> dict[NodeName, Observation]:
    """What is seen, with what an operation on the node's instance says of it: nothing of one that lives.

    One that was asked for and never came is dead for Google's reason; an insert that went well undoes that again.
    """
    standing = seen.get(node, Observation(name=node, alive=False))
    others = {name: one for name, one in seen.items() if name != node}
    if standing.alive:
        return dict(seen)
    if fate.operation_type == PREEMPTED:
        taken = replace(standing, preempted=True, reason="Google took the machine back (preempted)")
        return {**others, node: taken}
    if fate.error.errors:
        why = fate.error.errors[0]
        return {**others, node: replace(standing, reason=f"{why.message.rstrip('.')} ({why.code})")}
    return dict(seen) if standing.machine is not None else others


def owned_of(instance: compute.Instance, price: Price) -> Owned:
    """Whose an instance of ours is."""
    kept = {item.key: item.value for item in instance.metadata.items}
    return Owned(
        name=node_of(instance.name),
        pool=PoolId(instance.labels[POOL]),
        owner=kept.get(OWNER, instance.labels.get(OWNER, "")),
        machine=machine_of(instance, price),
        made_at=made_at(instance),
        state=instance.status.lower(),
    )


def made_at(instance: compute.Instance) -> float:
    """When it was asked for, in epoch seconds."""
    return datetime.fromisoformat(instance.creation_timestamp).timestamp()


def stopped_at(instance: compute.Instance) -> float:
    """Since when it has been standing there switched off, in epoch seconds."""
    return datetime.fromisoformat(instance.last_stop_timestamp or instance.creation_timestamp).timestamp()


def is_public(instance: compute.Instance) -> bool:
    """Whether it has an address that is seen from outside."""
    return bool(_outside(instance))


def lets_key_in(instance: compute.Instance) -> bool:
    """Whether it was told of the pool's key; where OS Login is demanded it is not."""
    return any(item.key == KEYS for item in instance.metadata.items)


def address_of(instance: compute.Instance) -> str | None:
    """Where it is reached: from outside, if it has such an address."""
    inside = [interface.network_i_p for interface in instance.network_interfaces if interface.network_i_p]
    return next(iter([*_outside(instance), *inside]), None)


def _outside(instance: compute.Instance) -> list[str]:
    configured = [config for interface in instance.network_interfaces for config in interface.access_configs]
    return [config.nat_i_p for config in configured if config.nat_i_p]
