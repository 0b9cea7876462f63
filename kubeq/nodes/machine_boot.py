"""The text with which a machine of a cloud boots and becomes a node: no credential, the agent by its digest.

Which text a provider hands to its cloud, and how, is the provider's affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeq.core.machines import Machine
from kubeq.core.model import NodeName
from kubeq.core.wire import encode_machine
from kubeq.errors import UsageError
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.boot import PREFIX, agent_environment
from kubeq.nodes.forms import Boot, boot_from_store

_OF_THIS_MACHINE = ("STATE", "CACHE", "LOG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """What differs between clouds: the provider's name, the line that ends a machine, and what its agents are told."""

    provider: str
    at_end: str = "poweroff"
    told: Mapping[str, str] = field(default_factory=dict)


def machine_text(request: NodeRequest, node: NodeName, number: int, machine: Machine, cloud: Cloud) -> str:
    """All that the machine runs at its first boot. Raises UsageError without an agent that it could fetch."""
    agent = request.agent
    if agent is None or agent.archive is None:
        raise UsageError("the agent's archive is not in a store that a machine can see", hint="kubeq check")
    own = agent_environment(request, node, number, cloud.provider)
    kept = {name: own[name] for name in own if name.removeprefix(PREFIX) not in _OF_THIS_MACHINE}
    kept[f"{PREFIX}MACHINE"] = json.dumps(encode_machine(machine))
    environment = {**kept, **request.environ, **cloud.told}
    boot = Boot(environment=environment, extras=agent.extras, at_end=cloud.at_end)
    return boot_from_store(boot, agent.archive, agent.url)
