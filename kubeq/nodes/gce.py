"""Nodes on machines of Google's Compute Engine, one instance a node. Nothing here remembers what was made: Google does.

What is offered is in `gce_offers`, how an instance looks in `gce_description`, how it is made in `gce_launch`. A
machine ends by itself: it deletes itself when its agent has left, and Google deletes it when its time is over or it is
taken back.

Requests a call (each page of 500 is one)

offers     8, and 1 a zone (2 where GPUs are attached) and 1 an architecture; what was found is kept for ten minutes
launch     as offers; 1 list, and 1 insert a name and offer tried and 1 a second until it is known whether it comes
observe    2 lists: the instances, and how such came and went
terminate  1 list a pool, and 1 a name
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from kubeq.core.machines import Machine, Machines, Offer
from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.core.table_rules import listing
from kubeq.errors import AccessDenied, BackendError, NotFound, UsageError
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeRequest, Observation, Owned, Refused
from kubeq.nodes.gce_api import Compute, Patience, last, together
from kubeq.nodes.gce_client import compute
from kubeq.nodes.gce_description import USER, Description, startup_script
from kubeq.nodes.gce_instances import delete_instance, list_fates, list_instances, read_console, remove_rule
from kubeq.nodes.gce_launch import Launcher
from kubeq.nodes.gce_names import (
    NODE,
    POOL,
    PROVIDER,
    STOPPED,
    instance_name,
    node_of,
    of_pool,
    pool_of,
    pool_tag,
)
from kubeq.nodes.gce_offers import Plan, plan
from kubeq.nodes.gce_seen import address_of, after, is_public, lets_key_in, observation_of, owned_of, stopped_at
from kubeq.nodes.prices import Price
from kubeq.nodes.ssh_keys import forget_key, key_path

log = logging.getLogger(__name__)
KEPT_S = 600.0
"""How long what Google offers is not asked again."""
LOOK_S = 10.0
SPENT_S = 900.0
"""How long a machine that switched itself off is kept: its console may say why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GceSettings:
    """What the configuration says. `project` None: that of the credentials."""

    state_dir: Path
    project: str | None = None


class GceProvider:
    """A NodeProvider over one project. Nothing is asked before the first call."""

    name: ClassVar[str] = PROVIDER
    capabilities: NodeCapabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=True, look_every_s=LOOK_S)

    def __init__(self, settings: GceSettings, price: Price, patience: Patience | None = None) -> None:
        self._settings = settings
        self._price = price
        self._asked = Compute(settings.project, patience)
        self._plans: dict[Machines, tuple[float, Plan]] = {}
        self._fresh: dict[NodeName, str] = {}
        """In which zone each was made last, from here: no list may show it yet."""

    def largest(self) -> Resources | None:
        """Not known before a type is chosen."""
        return None

    def usual(self, tasks: int) -> int:
        """One: more cost more, and somebody has to say so."""
        return 1

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        """See NodeProvider. It has no hosts of the user's."""
        return ()

    def offers(self, machines: Machines) -> Sequence[Offer]:
        """See NodeProvider."""
        return self._plan(machines).offers

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        """See NodeProvider. Waits until it is known of each whether there is room for it, half a minute at most."""
        if request.machines is None:
            raise UsageError("it is not said which machines are to be made", hint="set a region")
        found = self._plan(request.machines)
        description = Description(asked=self._asked, request=request, machines=request.machines, boots=found.boots)
        launcher = Launcher(description=description, plan=found, price=self._price, note=self._fresh.__setitem__)
        return launcher.launch(names)

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        """See NodeProvider. Of those that are gone only such are still known as never came, or as Google took back.

        One that switched itself off some time ago and could not delete itself is deleted.
        """
        instances = list_instances(self._asked, of_pool(pool))
        seen = {node_of(one.name): observation_of(one, self._price) for one in instances}
        for fate in reversed(list_fates(self._asked)):  # the latest has the last word
            node = node_of(last(fate.target_link))
            if pool_of(node) == pool:
                seen = after(seen, node, fate)
        self._sweep(instances)
        return seen

    def owned(self) -> Sequence[Owned]:
        """See NodeProvider."""
        return [owned_of(one, self._price) for one in list_instances(self._asked, f"labels.{POOL}:*")]

    def boot_text(self, request: NodeRequest, name: NodeName, number: int, machine: Machine) -> str | None:
        """See NodeProvider."""
        return startup_script(self._asked, request, name, number, machine)

    def console(self, name: NodeName) -> str | None:
        """See NodeProvider. Google keeps the last mebibyte for as long as the instance stands."""
        found = self._instance(name)
        return None if found is None else read_console(self._asked, last(found.zone), found.name) or None

    def silent(self, pool: PoolId) -> Mapping[str, str]:
        """See NodeProvider. Google answers for all machines or for none."""
        return {}

    def terminate(self, names: Sequence[NodeName]) -> None:
        """See NodeProvider. Google shuts the machines down, which tells the agents, and deletes them.

        Raises BackendError, naming them, for those that could not be asked to; the others are.
        """
        wanted = set(names)
        pools = sorted({pool_of(name) for name in names})
        found = [one for pool in pools for one in list_instances(self._asked, of_pool(pool))]
        ending = [one for one in found if node_of(one.name) in wanted]
        unlisted = (wanted & self._fresh.keys()) - {node_of(one.name) for one in ending}
        made = [compute.Instance(name=instance_name(name), zone=self._fresh[name]) for name in unlisted]
        self._delete([*(one for one in ending if one.status != "STOPPING"), *made])
        for name in wanted:
            self._fresh.pop(name, None)

    def command(self, node: Node, words: Sequence[str], *, terminal: bool) -> list[str]:
        """See NodeProvider. OpenSSH with the pool's key, as root; how port 22 is reached says docs/decisions."""
        found = self._instance(node.name)
        address = None if found is None else address_of(found)
        if found is None or address is None:
            raise NotFound(f"there is no machine of node {node.name} any more", hint="kubeq nodes lists them")
        key = key_path(self._settings.state_dir, node.pool)
        if not key.is_file():
            raise NotFound(f"the key of pool {node.pool} is not on this machine", hint="use the machine that made it")
        if not lets_key_in(found):
            raise AccessDenied(
                f"the machine of node {node.name} does not let the pool's key in: its organisation allows no login "
                "but OS Login (compute.requireOsLogin)",
                hint=f"{shlex.join(self._os_login(found))}, with roles/compute.osAdminLogin",
            )
        options = [
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={key.with_name('known_hosts')}",
            f"HostKeyAlias=kubeq-{found.id}",
            "IdentitiesOnly=yes",
            *([] if terminal else ["BatchMode=yes"]),
            *([] if is_public(found) else [f"ProxyCommand={self._tunnel(found)}"]),
        ]
        inner = shlex.join(["sudo", "-n", "--", *(words or ("/bin/bash", "-l"))])
        return [
            *("ssh", "-t" if terminal else "-T", "-l", USER, "-i", str(key)),
            *(word for option in options for word in ("-o", option)),
            *("--", address, inner),
        ]

    def forget(self, pool: PoolId | None, older_s: float) -> None:
        """See NodeProvider. Its firewall rule, its key and what stands switched off of its machines go."""
        if pool is None:
            return
        self._delete([one for one in list_instances(self._asked, of_pool(pool)) if one.status in STOPPED])
        remove_rule(self._asked, pool_tag(pool))
        key_path(self._settings.state_dir, pool).with_name("known_hosts").unlink(missing_ok=True)
        forget_key(self._settings.state_dir, pool)

    def _plan(self, machines: Machines) -> Plan:
        at, found = self._plans.get(machines, (0.0, None))
        if found is None or time.monotonic() - at > KEPT_S:
            found = plan(self._asked, machines, self._price)
            self._plans[machines] = time.monotonic(), found
        return found

    def _instance(self, name: NodeName) -> compute.Instance | None:
        found = list_instances(self._asked, f'labels.{NODE} = "{name}"')
        return next((one for one in found if one.name == instance_name(name)), None)

    def _tunnel(self, instance: compute.Instance) -> str:
        words = ["gcloud", "compute", "start-iap-tunnel", instance.name, "22", "--listen-on-stdin"]
        return shlex.join([*words, *self._place(instance)])

    def _os_login(self, instance: compute.Instance) -> list[str]:
        through = [] if is_public(instance) else ["--tunnel-through-iap"]
        return ["gcloud", "compute", "ssh", instance.name, *through, *self._place(instance)]

    def _place(self, instance: compute.Instance) -> list[str]:
        return ["--zone", last(instance.zone), "--project", self._asked.project]

    def _delete(self, instances: Sequence[compute.Instance]) -> None:
        def deleted(instance: compute.Instance) -> str | None:
            try:
                delete_instance(self._asked, last(instance.zone), instance.name)
            except BackendError as error:
                return error.message
            return None

        calls: list[Callable[[], str | None]] = [partial(deleted, one) for one in instances]
        problems = [problem for problem in together(calls) if problem is not None]
        if problems:
            raise BackendError(listing(problems), hint="kubeq nodes --orphans lists what still stands", transient=True)

    def _sweep(self, instances: Sequence[compute.Instance]) -> None:
        before = time.time() - SPENT_S
        try:
            self._delete([one for one in instances if one.status in STOPPED and stopped_at(one) < before])
        except BackendError as error:
            log.warning("%s", error.message)
