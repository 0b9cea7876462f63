"""The node's own row, as far as it never changes while the agent lives."""

from __future__ import annotations

import os
import socket

import kubeq
from kubeq.core.model import Node, NodeState
from kubeq.core.resources import Resources
from kubeq_consumer.settings import AgentConfig


def own_row(config: AgentConfig, total: Resources, now: float) -> Node:
    """The row of a node that begins now and has so much to give."""
    return Node(
        name=config.node,
        pool=config.pool,
        number=config.number,
        provider=config.provider,
        state=NodeState.STARTING,
        host=socket.gethostname(),
        pid=os.getpid(),
        address=config.address,
        total=total,
        machine=config.machine,
        requested_at=now,
        started_at=now,
        version=kubeq.__version__,
    )
