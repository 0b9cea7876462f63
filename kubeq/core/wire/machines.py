"""Machines of a cloud: what a pool asks for, and what was made."""

from __future__ import annotations

from kubeq.core.machines import LIFETIME_S, Machine, Machines, Volume
from kubeq.core.wire.base import Document, decode_resources, encode_resources, sparse


def encode_machines(machines: Machines) -> Document:
    """What a pool's machines are to be, as it stands in the pool's row."""
    return sparse(
        {
            "region": machines.region,
            "zones": list(machines.zones) or None,
            "types": list(machines.types) or None,
            "need": encode_resources(machines.need),
            "gpus": machines.gpus or None,
            "gpu": machines.gpu,
            "spot": machines.spot or None,
            "spot_budget": machines.spot_budget or None,
            "image": machines.image,
            "disk": machines.disk,
            "disk_kind": machines.disk_kind,
            "volumes": [[each.path, each.size, each.kind] for each in machines.volumes] or None,
            "network": machines.network,
            "subnets": list(machines.subnets) or None,
            "tags": list(machines.tags) or None,
            "ports": list(machines.ports) or None,
            "private": machines.private or None,
            "identity": machines.identity,
            "labels": [list(label) for label in machines.labels] or None,
            "lifetime_s": machines.lifetime_s,
        }
    )


def decode_machines(document: Document) -> Machines:
    """What `encode_machines` wrote."""
    return Machines(
        region=document["region"],
        zones=tuple(document.get("zones", ())),
        types=tuple(document.get("types", ())),
        need=decode_resources(document["need"]),
        gpus=document.get("gpus", 0),
        gpu=document.get("gpu"),
        spot=document.get("spot", False),
        spot_budget=document.get("spot_budget", 0),
        image=document.get("image"),
        disk=document.get("disk"),
        disk_kind=document.get("disk_kind"),
        volumes=tuple(Volume(path=path, size=size, kind=kind) for path, size, kind in document.get("volumes", ())),
        network=document.get("network"),
        subnets=tuple(document.get("subnets", ())),
        tags=tuple(document.get("tags", ())),
        ports=tuple(document.get("ports", ())),
        private=document.get("private", False),
        identity=document.get("identity"),
        labels=tuple((name, value) for name, value in document.get("labels", ())),
        lifetime_s=document.get("lifetime_s", LIFETIME_S),
    )


def encode_machine(machine: Machine) -> Document:
    """A machine as it stands in its node's row, and as its agent is told."""
    return sparse(
        {
            "id": machine.id,
            "type": machine.type,
            "zone": machine.zone,
            "spot": machine.spot or None,
            "price": machine.price,
        }
    )


def decode_machine(document: Document) -> Machine:
    """What `encode_machine` wrote."""
    return Machine(
        id=document.get("id"),
        type=document["type"],
        zone=document["zone"],
        spot=document.get("spot", False),
        price=document.get("price"),
    )
