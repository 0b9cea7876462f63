"""What of EC2 fits a pool's machines, put together and priced: the offers in order, and all that a launch needs.

Everything that can be wrong with a region, zone, type, image, network or identity is said here; nothing is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubeq import aws
from kubeq.core.machines import Machines, MachineType, Offer, offers_in_order
from kubeq.errors import AccessDenied, UsageError
from kubeq.nodes.ec2_calls import Ec2Calls, Said
from kubeq.nodes.ec2_image import BootImage, image_for
from kubeq.nodes.ec2_network import Network, network_for
from kubeq.nodes.ec2_quota import allowed_offers
from kubeq.nodes.ec2_types import types_for
from kubeq.nodes.prices import Price

PROVIDER = "ec2"
MOST_TYPES = 20
"""So many of the types that fit are looked at where none is named: those that cost the least."""
MOST_VALUES = 200
"""Values of one filter (Amazon EC2 API Reference, "Filter")."""
HOMES = {"cn": "cn-north-1", "us-gov": "us-gov-west-1"}
"""Where a partition's regions are asked for whose names begin so; for all others us-east-1."""
_REGION = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The offers in the order in which they are tried, and what machines of any of them boot and are put into."""

    machines: Machines
    offers: tuple[Offer, ...]
    image: BootImage
    network: Network


def plan_for(calls: Ec2Calls, machines: Machines, price: Price) -> Plan:
    """The plan. Raises UsageError or BackendError for whatever does not exist, does not fit or is not allowed."""
    check_region(calls, machines.region)
    network = network_for(calls, machines)
    check_identity(calls, machines.identity)
    kinds = types_for(calls, machines)
    plain = {kind.name: price(PROVIDER, kind.name, machines.region, False) for kind in kinds}
    ordered = kinds if machines.types else _cheapest(kinds, plain)
    offered = _offered(calls, [kind.name for kind in ordered], list(network.subnets))
    spot = _spot_prices(calls, [kind.name for kind in ordered]) if machines.spot else None
    offers = [
        Offer(
            type=kind,
            zone=zone,
            spot=machines.spot,
            price=plain[kind.name] if spot is None else spot.get((kind.name, zone)),
        )
        for kind in ordered
        for zone in network.subnets
        if (kind.name, zone) in offered
    ]
    if not offers:
        asked = ", ".join(machines.types) or "a type that fits"
        raise UsageError(
            f"{asked} cannot be had in {', '.join(network.subnets)}", hint="name another type, or other zones"
        )
    offers = allowed_offers(calls, offers_in_order(offers, machines.types))
    image = image_for(calls, machines, [offer.type for offer in offers])
    return Plan(machines=machines, offers=tuple(offers), image=image, network=network)


def check_region(calls: Ec2Calls, region: str) -> None:
    """Raise UsageError for a region that there is not. One that the SDK does not know yet is asked for."""
    hint = "a region looks like eu-west-1; aws ec2 describe-regions lists yours"
    if not _REGION.fullmatch(region):
        raise UsageError(f"{region!r} is not the name of a region of AWS", hint=hint)
    if region in aws.known_regions("ec2"):
        return
    home = next((name for start, name in HOMES.items() if region.startswith(f"{start}-")), "us-east-1")
    known = aws.client("ec2", home, calls.meter)
    try:
        answer = calls.ask(
            "the regions of AWS",
            lambda: known.describe_regions(RegionNames=[region], AllRegions=True),
            expected={"InvalidParameterValue"},
        )
    except Said as said:
        raise UsageError(f"AWS has no region {region}", hint=hint) from said
    except AccessDenied:
        return  # who may not list them finds out from the region itself
    if not answer["Regions"]:
        raise UsageError(f"AWS has no region {region}", hint=hint)


def check_identity(calls: Ec2Calls, identity: str | None) -> None:
    """Raise UsageError for an instance profile that there is not, or that holds no role."""
    if identity is None:
        return
    name = identity.rpartition("/")[2]
    try:
        answer = calls.ask(
            f"the instance profile {name}",
            lambda: calls.iam.get_instance_profile(InstanceProfileName=name),
            expected={"NoSuchEntity", "ValidationError"},
            service="iam",
        )
    except Said as said:
        raise UsageError(f"there is no instance profile {name}", hint="kubeq setup makes one for nodes") from said
    except AccessDenied:
        return  # whether it may be passed on is seen at the launch
    if not answer["InstanceProfile"]["Roles"]:
        raise UsageError(f"the instance profile {name} holds no role", hint="kubeq setup makes one that does")


def _cheapest(kinds: list[MachineType], plain: Mapping[str, float | None]) -> list[MachineType]:
    """Not all of hundreds: those that are likely to be among the first."""
    offers = [Offer(type=kind, zone="", spot=False, price=plain[kind.name]) for kind in kinds]
    return [offer.type for offer in offers_in_order(offers, ())][:MOST_TYPES]


def _offered(calls: Ec2Calls, types: list[str], zones: list[str]) -> set[tuple[str, str]]:
    """Which types there are in which zones."""
    filters: Any = [{"Name": "instance-type", "Values": types[:MOST_VALUES]}, {"Name": "location", "Values": zones}]
    answer = calls.ask(
        f"the machine types of {', '.join(zones)}",
        lambda: list(
            calls.ec2.get_paginator("describe_instance_type_offerings").paginate(
                LocationType="availability-zone", Filters=filters
            )
        ),
    )
    offerings = (each for page in answer for each in page["InstanceTypeOfferings"])
    return {(each["InstanceType"], each["Location"]) for each in offerings}


def _spot_prices(calls: Ec2Calls, types: Any) -> Mapping[tuple[str, str], float]:
    """What an hour of each type costs in each zone now."""
    pages = calls.ask(
        f"the prices of spot machines in {calls.region}",
        lambda: list(
            calls.ec2.get_paginator("describe_spot_price_history").paginate(
                InstanceTypes=types, ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
            )
        ),
    )
    history = sorted((each for page in pages for each in page["SpotPriceHistory"]), key=lambda each: each["Timestamp"])
    return {(each["InstanceType"], each["AvailabilityZone"]): float(each["SpotPrice"]) for each in history}
