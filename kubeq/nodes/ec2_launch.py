"""Making one machine for one node: which request is sent, and what is tried when EC2 says no.

Which offers there are is in `ec2_plan`; what the machine does when it boots is in `machine_boot`.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kubeq.core.machines import Machine, Offer
from kubeq.core.model import NodeName
from kubeq.errors import KubeqError, UsageError
from kubeq.nodes.base import Launched, NodeRequest, Refused
from kubeq.nodes.ec2_calls import EVERY, Ec2Calls, Said
from kubeq.nodes.ec2_image import GIB
from kubeq.nodes.ec2_plan import Plan
from kubeq.nodes.ec2_tags import LIVING, NODE, PRICE, machines_seen, own_tags, tag_words
from kubeq.nodes.machine_boot import EC2, machine_text

MOST_TRIES = 12
"""Offers that one machine is asked for."""
LONGEST_TEXT = 16 * 1024
"""Bytes of user data before they are encoded (Amazon EC2 User Guide, "Instance user data")."""
LONGEST_TOKEN = 64
NO_ROOM = {
    "InsufficientAddressCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "InsufficientCapacity",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "Unsupported",
    "UnsupportedOperation",
    "VcpuLimitExceeded",
}
"""Another type or another zone may do ("Error codes for the Amazon EC2 API")."""
MISMATCH = "IdempotentParameterMismatch"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Makes machines for one request; safe to use from several threads, that tell each other what is full."""

    calls: Ec2Calls
    request: NodeRequest
    plan: Plan
    groups: tuple[str, ...]
    full: set[Offer] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: NodeName, number: int) -> Launched | Refused:
        """A machine for the node, or why there is none: the first offer that EC2 has room for now."""
        reasons: list[str] = []
        try:
            for position, offer in enumerate(self.plan.offers):
                if len(reasons) >= MOST_TRIES or self._is_full(offer):
                    continue
                found = self._try(offer, name, number, position)
                if isinstance(found, Machine):
                    return Launched(name=name, machine=found)
                reasons.append(f"{offer.type.name} in {offer.zone}: {found}")
        except KubeqError as error:
            return Refused(name=name, reason=f"{error.message} ({error.hint})" if error.hint else error.message)
        except Said as said:
            return Refused(name=name, reason=str(said))
        return Refused(name=name, reason=_none_left(reasons, len(self.plan.offers)))

    def _try(self, offer: Offer, name: NodeName, number: int, position: int) -> Machine | str:
        """The machine, or why EC2 has no room for it. Raises Said for any other "no"."""
        made = Machine(type=offer.type.name, zone=offer.zone, spot=offer.spot, price=offer.price)
        text = machine_text(self.request, name, number, made, EC2)
        wanted = run_request(self.plan, offer, self.groups) | {
            "ClientToken": token_of(name, position),
            "UserData": packed(text),
            "TagSpecifications": self._tags(name, offer),
        }
        try:
            answer = self.calls.ask(
                f"machines in {offer.zone}",
                lambda: self.calls.ec2.run_instances(**wanted),
                expected={EVERY, *NO_ROOM},
                again=_comes_to_be,
            )
        except Said as said:
            if said.code == MISMATCH:
                return self._standing(name, said)
            if said.code not in NO_ROOM:
                raise
            log.info("no machine for %s: %s in %s: %s", name, offer.type.name, offer.zone, said)
            with self.lock:
                self.full.add(offer)
            return str(said)
        return replace(made, id=answer["Instances"][0]["InstanceId"])

    def _standing(self, name: NodeName, said: Said) -> Machine:
        """What an earlier launch of the same node made, asked for in other words."""

        def look() -> Machine:
            found = machines_seen(self.calls, LIVING, node=[name])
            if not found:
                raise said
            return found[0].machine

        return self.calls.ask(f"the machine of {name}", look, again=lambda _: True)  # it may not be listed yet

    def _is_full(self, offer: Offer) -> bool:
        with self.lock:
            return offer in self.full

    def _tags(self, name: NodeName, offer: Offer) -> Any:
        price = {} if offer.price is None else {PRICE: f"{offer.price:g}"}
        return tagged(offer, {"Name": f"kubeq {name}", **own_tags(self.request), NODE: name, **price})


def tagged(offer: Offer, tags: Mapping[str, str]) -> Any:
    """Those tags for all that comes with a machine, as RunInstances takes them."""
    kinds = ["instance", "volume", "network-interface", *(["spot-instances-request"] if offer.spot else [])]
    return [{"ResourceType": kind, "Tags": tag_words(tags)} for kind in kinds]


def run_request(plan: Plan, offer: Offer, groups: tuple[str, ...]) -> dict[str, Any]:
    """What RunInstances is asked for, but for the name and the text."""
    machines = plan.machines
    spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    profile = machines.identity
    return {
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": plan.image.id,
        "InstanceType": offer.type.name,
        **_interface(plan, offer, [*groups, *plan.network.groups]),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": _disks(plan),
        **({"IamInstanceProfile": {"Arn" if profile.startswith("arn:") else "Name": profile}} if profile else {}),
        **({"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": spot}} if offer.spot else {}),
    }


def token_of(name: NodeName, position: int) -> str:
    """What makes RunInstances idempotent: the node's name; each further offer is a request of its own."""
    token = name if position == 0 else f"{name}.{position}"
    return token if len(token) <= LONGEST_TOKEN else hashlib.sha256(token.encode()).hexdigest()


def packed(text: str) -> bytes:
    """The text as user data: as it is, or compressed, which cloud-init takes too; UsageError if too long."""
    plain = text.encode()
    if len(plain) <= LONGEST_TEXT:
        return plain
    small = gzip.compress(plain, mtime=0)
    if len(small) > LONGEST_TEXT:
        raise UsageError(
            f"the machine's boot text is too long for EC2, which takes {LONGEST_TEXT} bytes: {len(small)}",
            hint="put less into the pool's environment",
        )
    return small


def check_allowed(calls: Ec2Calls, plan: Plan) -> None:
    """Raise what EC2 would say to the first request of a launch: that it is not permitted, or wrong in itself."""
    offer = plan.offers[0]
    wanted = run_request(plan, offer, ()) | {
        "TagSpecifications": tagged(offer, {**dict(plan.machines.labels), NODE: "-"})
    }
    try:
        calls.ask(
            f"a machine in {offer.zone}",
            lambda: calls.ec2.run_instances(DryRun=True, **wanted),
            expected={EVERY},
            again=_comes_to_be,
        )
    except Said as said:
        if said.code != "DryRunOperation":
            raise UsageError(
                f"EC2 would not make such a machine: {said}", hint="change what is asked of the machines"
            ) from said


def _interface(plan: Plan, offer: Offer, groups: list[str]) -> Mapping[str, Any]:
    """Where in the network it is; whether it has an address outside is the subnet's affair, unless it may have none."""
    subnet = plan.network.subnets[offer.zone]
    if not plan.machines.private:
        return {"SubnetId": subnet, **({"SecurityGroupIds": groups} if groups else {})}
    hidden = {"DeviceIndex": 0, "AssociatePublicIpAddress": False, "DeleteOnTermination": True}
    return {"NetworkInterfaces": [{"SubnetId": subnet, **({"Groups": groups} if groups else {}), **hidden}]}


def _disks(plan: Plan) -> list[Mapping[str, Any]]:
    machines, kept = plan.machines, {"DeleteOnTermination": True}
    size = plan.image.size if machines.disk is None else math.ceil(machines.disk / GIB)
    disks: list[Mapping[str, Any]] = [
        {
            "DeviceName": plan.image.device,
            "Ebs": {"VolumeSize": size, "VolumeType": machines.disk_kind or "gp3", **kept},
        }
    ]
    for name, volume in zip(EC2.devices, machines.volumes, strict=False):  # more are refused with the boot text
        about = {"VolumeSize": math.ceil(volume.size / GIB), "VolumeType": volume.kind or "gp3", **kept}
        disks.append({"DeviceName": name, "Ebs": about})
    return disks


def _comes_to_be(said: Said) -> bool:
    """Whether it is said of something that was made a moment ago."""
    new = said.code in ("InvalidGroup.NotFound", "InvalidSubnetID.NotFound")
    return new or (said.code == "InvalidParameterValue" and "instance profile" in said.words.lower())


def _none_left(reasons: list[str], offers: int) -> str:
    if not reasons:
        return f"none of the {offers} types and zones that fit had room a moment ago"
    more = f" (and {len(reasons) - 1} more types or zones had none either)" if len(reasons) > 1 else ""
    return f"EC2 has no room: {reasons[-1]}{more}"
