"""The security group of a pool: what is open among its machines, and to whom port 22 is.

It is made with the pool's first machine and goes with a `clean` when all of these have been gone for a day. Nothing is
open from outside until somebody connects, and then port 22 alone, to that one's address.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.request import urlopen

from kubeq.core.model import PoolId
from kubeq.errors import BackendError
from kubeq.nodes.ec2_calls import Ec2Calls, Said
from kubeq.nodes.ec2_network import Network
from kubeq.nodes.ec2_tags import MADE_AT, POOL, tag_words

SSH = 22
NEW = "InvalidGroup.NotFound"
"""What is said of a group for some seconds after it was made ("Eventual consistency in the Amazon EC2 API")."""
STANDING = {"InvalidPermission.Duplicate"}
IN_USE = {"DependencyViolation", "InvalidGroup.InUse", NEW}
MY_ADDRESS = "https://checkip.amazonaws.com"
"""AWS's own answer to where a request comes from (Amazon EC2 User Guide, "Authorize inbound traffic")."""
ADDRESS_S = 10.0
LONGEST_DESCRIPTION = 255
_NOT_IN_DESCRIPTIONS = re.compile(r"[^A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]")
"""Amazon EC2 API Reference, "IpRange" and "CreateSecurityGroup"."""
log = logging.getLogger(__name__)


def group_name(pool: PoolId) -> str:
    """What the pool's group is called."""
    return f"kubeq-{pool}"


def pool_group(calls: Ec2Calls, pool: PoolId, network: Network, ports: Sequence[int], tags: Mapping[str, str]) -> str:
    """The id of the pool's group, made if need be, with those ports (of TCP and UDP) open among its members."""
    name = group_name(pool)
    thing = f"the security group {name}"
    given: Any = [{"ResourceType": "security-group", "Tags": tag_words({**tags, MADE_AT: str(int(time.time()))})}]
    try:
        group = calls.ask(
            thing,
            lambda: calls.ec2.create_security_group(
                GroupName=name,
                Description=f"machines of kubeq pool {pool}",
                VpcId=network.vpc,
                TagSpecifications=given,
            ),
            expected={"InvalidGroup.Duplicate"},
        )["GroupId"]
    except Said:
        group = _standing(calls, name, network.vpc)
    members = {"UserIdGroupPairs": [{"GroupId": group, "Description": "machines of the pool"}]}
    for port in ports:
        for protocol in ("tcp", "udp"):
            _open(calls, thing, group, {"IpProtocol": protocol, "FromPort": port, "ToPort": port, **members})
    return group


def open_to_caller(calls: Ec2Calls, pool: PoolId, caller: str, address: str) -> None:
    """Port 22 of the pool's machines is open to that address, and to no other that this caller had before."""
    mark = _NOT_IN_DESCRIPTIONS.sub("-", f"kubeq connect by {caller}")[:LONGEST_DESCRIPTION]
    block = f"{address}/{32 if ipaddress.ip_address(address).version == 4 else 128}"
    for group in _groups(calls, {"group-name": group_name(pool)}):
        thing, standing = f"the security group {group['GroupId']}", False
        for rule in group.get("IpPermissions", []):
            ranges = rule.get("IpRanges", []) + rule.get("Ipv6Ranges", [])
            mine = [each for each in ranges if each.get("Description") == mark]
            standing = standing or any(_block(each) == block for each in mine)
            for each in (each for each in mine if _block(each) != block):
                old: Any = [_rule(_block(each), mark)]
                close = partial(calls.ec2.revoke_security_group_ingress, GroupId=group["GroupId"], IpPermissions=old)
                calls.ask(thing, close)
        if not standing:
            _open(calls, thing, group["GroupId"], _rule(block, mark))


def forget_group(calls: Ec2Calls, pool: PoolId, older_s: float) -> None:
    """Remove the pool's group if it was made so long ago; one that is in use stays."""
    for group in _groups(calls, {"group-name": group_name(pool), "tag-key": POOL}):
        made = next((tag["Value"] for tag in group.get("Tags", []) if tag["Key"] == MADE_AT), "0")
        if not made.isdecimal() or time.time() - int(made) < older_s:
            continue
        try:
            calls.ask(
                f"the security group {group['GroupName']}",
                partial(calls.ec2.delete_security_group, GroupId=group["GroupId"]),
                expected=IN_USE,
            )
        except Said as said:
            log.info("the security group %s stays: %s", group["GroupName"], said)


def address_seen_by(machine: str, private: bool) -> str:
    """The address that this machine has for that one. Raises BackendError if that cannot be found out."""
    try:
        if private:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((machine, SSH))  # sends nothing
                return str(probe.getsockname()[0])
        with urlopen(MY_ADDRESS, timeout=ADDRESS_S) as answer:
            return str(ipaddress.ip_address(answer.read(100).decode().strip()))
    except (OSError, ValueError) as error:
        raise BackendError(
            f"port 22 of {machine} cannot be opened to this machine: its own address is not to be had: {error}",
            hint="look at the network, or open the port in a security group of yours (network_tags)",
        ) from error


AddressSeenBy = Callable[[str, bool], str]


def _groups(calls: Ec2Calls, wanted: Mapping[str, str]) -> Sequence[Any]:
    filters: Any = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
    answer = calls.ask(
        f"the security groups of {calls.region}", lambda: calls.ec2.describe_security_groups(Filters=filters)
    )
    return answer["SecurityGroups"]


def _standing(calls: Ec2Calls, name: str, vpc: str) -> str:
    """The id of a group that somebody has just made."""

    def look() -> str:
        found = _groups(calls, {"group-name": name, "vpc-id": vpc})
        if not found:
            raise Said(NEW, f"the security group {name} is not listed yet")
        return str(found[0]["GroupId"])

    return calls.ask(f"the security group {name}", look, again=lambda said: said.code == NEW)


def _open(calls: Ec2Calls, thing: str, group: str, rule: Mapping[str, Any]) -> None:
    rules: Any = [rule]
    try:
        calls.ask(
            thing,
            lambda: calls.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules),
            expected={*STANDING, NEW},
            again=lambda said: said.code == NEW,
        )
    except Said as said:
        if said.code not in STANDING:
            raise BackendError(f"{thing} cannot be changed: {said}", hint="repeat it in a minute") from said


def _rule(block: str, mark: str) -> Mapping[str, Any]:
    which = ("Ipv6Ranges", "CidrIpv6") if ":" in block else ("IpRanges", "CidrIp")
    return {"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH, which[0]: [{which[1]: block, "Description": mark}]}


def _block(described: Mapping[str, str]) -> str:
    return described.get("CidrIp") or described.get("CidrIpv6", "")
