"""How what kubeq makes on Compute Engine is called and labelled, and which of Google's states mean what."""

from __future__ import annotations

import uuid

from kubeq.core.machines import Offer
from kubeq.core.model import NodeName, PoolId

PROVIDER = "gce"
POOL, NODE, OWNER, RELEASE = "kubeq-pool", "kubeq-node", "kubeq-owner", "kubeq-release"
"""The labels of all that is made."""
KEYS = "ssh-keys"
"""The key of an instance's metadata that says who may log in there."""
LIVE = frozenset({"PROVISIONING", "STAGING", "RUNNING", "REPAIRING"})
ENDING = frozenset({"STOPPING", "PENDING_STOP", "SUSPENDING", "DEPROVISIONING"})
STOPPED = frozenset({"TERMINATED", "STOPPED", "SUSPENDED"})
"""States in which an instance does nothing any more and its disks still cost: it has to be deleted."""
_PREFIX = "kubeq-"


def instance_name(node: NodeName) -> str:
    """The instance's name: as Google wants it, and nobody else's."""
    return _PREFIX + node


def node_of(name: str) -> NodeName:
    """The node of an instance that is ours."""
    return NodeName(name.removeprefix(_PREFIX))


def pool_of(node: NodeName) -> PoolId:
    """The pool of a node, by its name."""
    return PoolId(node.rpartition("-")[0])


def pool_tag(pool: PoolId) -> str:
    """The network tag of the pool's machines, and the name of the firewall rule between them."""
    return _PREFIX + pool


def request_id(node: NodeName, offer: Offer, again: str = "") -> str:
    """By which Google knows that it was asked for this very machine before; `again`: in other words than at first."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"kubeq:{node}:{offer.zone}:{offer.type.name}:{offer.spot}{again}"))


def of_pool(pool: PoolId) -> str:
    """The filter of a pool's instances."""
    return f'labels.{POOL} = "{pool}"'
