"""What a node's row tells beyond its fields. Pure; the rows themselves are in `model`."""

from __future__ import annotations

from kubeq.core.model import Node, NodeState


def has_begun(node: Node) -> bool:
    """Whether the node may hold attempts, or outcomes of an earlier life of its agent that are not delivered yet: an
    agent claims nothing before its row says that it is active.
    """
    return node.begun or node.state in (NodeState.ACTIVE, NodeState.DRAINING)
