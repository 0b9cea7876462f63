"""The tags by which EC2's things are known as kubeq's, and a pool's machines as EC2 describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubeq.core.machines import Machine
from kubeq.core.model import NodeName, PoolId
from kubeq.nodes.base import NodeRequest, Observation, Owned
from kubeq.nodes.ec2_calls import Ec2Calls
from kubeq.release import this_release

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

POOL, NODE, OWNER, RELEASE = "kubeq-pool", "kubeq-node", "kubeq-owner", "kubeq-release"
PRICE = "kubeq-price"
"""Dollars an hour when it was made: nobody else remembers what a spot machine's was."""
MADE_AT = "kubeq-made-at"
LONGEST_VALUE = 256
"""Characters of a tag's value (Amazon EC2 User Guide, "Tag restrictions")."""
LIVING = ("pending", "running")
ENDING = ("shutting-down", "stopping")
STANDING = (*LIVING, "stopping", "stopped")
PREEMPTED = {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown", "Server.InstanceTermination"}
"""State reasons of a machine that AWS took back (Amazon EC2 API Reference, "StateReason")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A machine as it is now. `code` and `reason` are EC2's own for why it is not running."""

    id: str
    name: NodeName
    pool: PoolId
    owner: str
    state: str
    code: str
    reason: str | None
    machine: Machine
    made_at: float
    address: str | None
    private: bool

    @property
    def alive(self) -> bool:
        return self.state in LIVING

    def observation(self) -> Observation:
        """The same in the words of every provider."""
        return Observation(
            name=self.name,
            alive=self.alive,
            reason=None if self.alive else self.reason,
            address=self.address,
            machine=self.machine,
            made_at=self.made_at,
            preempted=not self.alive and self.code in PREEMPTED,
            ending=self.state in ENDING,
        )

    def owned(self) -> Owned:
        """The same for whoever looks for what nobody needs."""
        return Owned(
            name=self.name,
            pool=self.pool,
            owner=self.owner,
            machine=self.machine,
            made_at=self.made_at,
            state=self.state,
        )


def own_tags(request: NodeRequest) -> dict[str, str]:
    """What everything of the pool is tagged with: the user's labels, and kubeq's own, which win."""
    labels = dict(request.machines.labels) if request.machines is not None else {}
    return {**labels, POOL: request.pool, OWNER: request.owner, RELEASE: this_release()}


def tag_words(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 takes them."""
    return [{"Key": key, "Value": value[:LONGEST_VALUE]} for key, value in tags.items()]


def machines_seen(calls: Ec2Calls, states: Sequence[str] = (), **wanted: Sequence[str]) -> list[Seen]:
    """The machines with those tags (`pool`, `node`) in those states (none: any), the oldest first.

    EC2 shows one that ended for about an hour, and one that was just made perhaps not yet.
    """
    filters: Any = [{"Name": f"tag:kubeq-{name}", "Values": list(values)} for name, values in wanted.items()]
    filters += [] if wanted else [{"Name": "tag-key", "Values": [NODE]}]
    filters += [{"Name": "instance-state-name", "Values": list(states)}] if states else []
    pages = calls.ask(
        f"the machines in {calls.region}",
        lambda: list(
            calls.ec2.get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig={"PageSize": 1000})
        ),
    )
    described = (one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"])
    return sorted(map(_seen, described), key=lambda seen: seen.made_at)


def by_name(seen: Iterable[Seen]) -> dict[NodeName, Seen]:
    """One machine a name: a living one before a dead one, then the youngest."""
    return {one.name: one for one in sorted(seen, key=lambda one: (one.alive, one.made_at))}


def _seen(one: InstanceTypeDef) -> Seen:
    tags = {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}
    why = one.get("StateReason", {})
    public = one.get("PublicIpAddress")
    machine = Machine(
        id=one["InstanceId"],
        type=one["InstanceType"],
        zone=one["Placement"]["AvailabilityZone"],
        spot=one.get("InstanceLifecycle") == "spot",
        price=_number(tags.get(PRICE)),
    )
    return Seen(
        id=one["InstanceId"],
        name=NodeName(tags.get(NODE, one["InstanceId"])),
        pool=PoolId(tags.get(POOL, "")),
        owner=tags.get(OWNER, ""),
        state=one["State"]["Name"],
        code=why.get("Code", ""),
        reason=why.get("Message") or one.get("StateTransitionReason") or None,
        machine=machine,
        made_at=one["LaunchTime"].timestamp(),
        address=public or one.get("PrivateIpAddress"),
        private=public is None,
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
