"""Where in a region machines can be put: its zones, a subnet in each, the security groups that they get.

The group that a pool has for itself is in `ec2_group`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kubeq.core.machines import Machines
from kubeq.errors import UsageError
from kubeq.nodes.ec2_calls import Ec2Calls, Said

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SubnetTypeDef


PLAIN_ZONE = "availability-zone"
"""Local and Wavelength zones are used where they are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A VPC, the subnet of each zone in which machines may be, and the groups that the user wants them in."""

    vpc: str
    subnets: Mapping[str, str]
    groups: tuple[str, ...]


def network_for(calls: Ec2Calls, machines: Machines) -> Network:
    """What the pool's machines are put into. Raises UsageError for a zone, network, subnet or group there is not."""
    zones = _zones(calls, machines)
    subnets = _named(calls, machines) if machines.subnets else _all(calls, machines)
    vpcs = sorted({subnet["VpcId"] for subnet in subnets})
    if len(vpcs) > 1:
        raise UsageError(
            f"the subnets {', '.join(machines.subnets)} are in several networks: {', '.join(vpcs)}",
            hint="name subnets of one network",
        )
    best_last = sorted(subnets, key=partial(_merit, private=machines.private))
    by_zone = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in best_last}
    usable = {zone: by_zone[zone] for zone in zones if zone in by_zone}
    without = [zone for zone in machines.zones if zone not in by_zone]
    if without or not usable:
        raise UsageError(
            f"the network {vpcs[0]} has no subnet of those in {', '.join(without or zones)}",
            hint="name other zones or subnets",
        )
    return Network(vpc=vpcs[0], subnets=usable, groups=_groups(calls, vpcs[0], machines.tags))


def _merit(subnet: SubnetTypeDef, *, private: bool) -> tuple[bool, int]:
    """Which of several in a zone is taken: one whose machines get an address outside, or none; then the roomiest."""
    return subnet.get("MapPublicIpOnLaunch", False) != private, subnet["AvailableIpAddressCount"]


def _zones(calls: Ec2Calls, machines: Machines) -> list[str]:
    answer = calls.ask(f"the zones of {calls.region}", calls.ec2.describe_availability_zones)
    there = [zone for zone in answer["AvailabilityZones"] if zone.get("State", "available") == "available"]
    known = [zone["ZoneName"] for zone in there]
    unknown = [zone for zone in machines.zones if zone not in known]
    if unknown:
        raise UsageError(
            f"{calls.region} has no zone {', '.join(unknown)} for this account",
            hint=f"its zones are: {', '.join(known)}",
        )
    plain = [zone["ZoneName"] for zone in there if zone.get("ZoneType", PLAIN_ZONE) == PLAIN_ZONE]
    return list(machines.zones) or plain


def _named(calls: Ec2Calls, machines: Machines) -> Sequence[SubnetTypeDef]:
    try:
        found = calls.ask(
            "the subnets",
            lambda: calls.ec2.describe_subnets(SubnetIds=list(machines.subnets)),
            expected={"InvalidSubnetID.NotFound", "InvalidSubnetId.Malformed", "InvalidSubnetID.Malformed"},
        )["Subnets"]
    except Said as said:
        raise UsageError(
            f"there is no such subnet in {calls.region}: {said.words.rstrip('.')}",
            hint="a subnet looks like subnet-0a1b",
        ) from said
    outside = [each["SubnetId"] for each in found if machines.network not in (None, each["VpcId"])]
    if outside:
        raise UsageError(
            f"the subnet {', '.join(outside)} is not in the network {machines.network}", hint="name one of the two only"
        )
    return found


def _all(calls: Ec2Calls, machines: Machines) -> Sequence[SubnetTypeDef]:
    """All of the network that is named, or of the account's default one."""
    thing, vpc = f"the network {machines.network}", machines.network
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}] if vpc else [{"Name": "is-default", "Values": ["true"]}]
    networks = calls.ask(thing, lambda: calls.ec2.describe_vpcs(Filters=filters))["Vpcs"]
    if not networks:
        named = f"no network {vpc}" if vpc else "no default network for this account"
        raise UsageError(f"{calls.region} has {named}", hint="name a network or subnets; aws ec2 describe-vpcs")
    vpc = networks[0]["VpcId"]
    there: Any = [{"Name": "vpc-id", "Values": [vpc]}]
    found = calls.ask(f"the network {vpc}", lambda: calls.ec2.describe_subnets(Filters=there))["Subnets"]
    if not found:
        raise UsageError(f"the network {vpc} in {calls.region} has no subnet", hint="name another network or subnets")
    return found


def _groups(calls: Ec2Calls, vpc: str, named: Sequence[str]) -> tuple[str, ...]:
    """The ids of security groups that are named by id or by name."""
    if not named:
        return ()
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}]
    answer = calls.ask(f"the security groups of {vpc}", lambda: calls.ec2.describe_security_groups(Filters=filters))
    ids = {group["GroupName"]: group["GroupId"] for group in answer["SecurityGroups"]}
    missing = [name for name in named if name not in ids and name not in ids.values()]
    if missing:
        raise UsageError(
            f"the network {vpc} has no security group {', '.join(missing)}", hint="name groups by their id or name"
        )
    return tuple(ids.get(name, name) for name in named)
