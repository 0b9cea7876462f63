"""How an instance of Compute Engine is asked for that is to be a node. What is read from one is in `gce_seen`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubeq.core.machines import Machine, Machines, Offer
from kubeq.core.model import NodeName
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.gce_api import Compute
from kubeq.nodes.gce_checks import (
    DEFAULT_ACCOUNT,
    DEFAULT_NETWORK,
    Boot,
    network_of_machines,
    network_place,
    subnet_place,
)
from kubeq.nodes.gce_client import compute
from kubeq.nodes.gce_names import KEYS, NODE, OWNER, POOL, RELEASE, instance_name, pool_tag
from kubeq.nodes.gce_types import ATTACHES
from kubeq.nodes.machine_boot import GCE, machine_text
from kubeq.release import this_release

USER = "kubeq"
"""Whom Google's agent on the machine makes, with the right to become root, for the key in the instance's metadata."""
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
OS_LOGIN = "enable-oslogin"
"""Where it is on, which is the project's to say unless the instance does, Google's agent on the machine lets in nobody
by a key of the metadata: https://cloud.google.com/compute/docs/oslogin/set-up-oslogin (May 2026)."""
_HYPERDISK = re.compile(r"(c4|c4a|c4d|n4|n4a|n4d|m4|x4|a4|h4d|g4)-")
"""Series that take no persistent disk: https://cloud.google.com/compute/docs/machine-resource (May 2026)."""
_GB = 2**30
_END = "/var/lib/kubeq-end"
_DELETES_ITSELF = """\
cat >{path} <<'END_OF_ENDING'
# The last that the machine does: one that only switches itself off stays, and its disks cost. Where its account may not
# delete it, whoever looks at the pool next does.
service=http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token
token=$(curl -s -m 20 -H 'Metadata-Flavor: Google' "$service" | sed -n 's/.*"access_token" *: *"\\([^"]*\\)".*/\\1/p')
printf 'Authorization: Bearer %s' "$token" | curl -s -m 60 -o /dev/null -X DELETE -H @- {url}
poweroff
END_OF_ENDING

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What all instances of one launch have in common."""

    asked: Compute
    request: NodeRequest
    machines: Machines
    boots: Mapping[str, Boot]

    def instance(self, node: NodeName, number: int, offer: Offer) -> compute.Instance:
        """The instance of a node that takes that offer."""
        machines, zone = self.machines, f"zones/{offer.zone}"
        return compute.Instance(
            name=instance_name(node),
            machine_type=f"{zone}/machineTypes/{offer.type.name}",
            labels=self._labels(node),
            tags=compute.Tags(items=sorted({pool_tag(self.request.pool), *machines.tags})),
            disks=self._disks(offer),
            guest_accelerators=self._accelerators(offer),
            scheduling=_scheduling(offer, machines.lifetime_s),
            network_interfaces=[self._interface()],
            service_accounts=[compute.ServiceAccount(email=machines.identity or DEFAULT_ACCOUNT, scopes=[SCOPE])],
            metadata=self._metadata(node, number, offer),
        )

    def _labels(self, node: NodeName) -> dict[str, str]:
        own = {POOL: self.request.pool, NODE: node, OWNER: self.request.owner, RELEASE: this_release()}
        return dict(self.machines.labels) | {key: _label(value) for key, value in own.items()}

    def _metadata(self, node: NodeName, number: int, offer: Offer) -> compute.Metadata:
        machine = Machine(type=offer.type.name, zone=offer.zone, spot=offer.spot, price=offer.price)
        items = {
            "startup-script": startup_script(self.asked, self.request, node, number, machine),
            "block-project-ssh-keys": "true",
            OWNER: self.request.owner,
            **({KEYS: f"{USER}:{self.request.key} {USER}", OS_LOGIN: "FALSE"} if self.request.key else {}),
        }
        return compute.Metadata(items=[compute.Items(key=key, value=value) for key, value in items.items()])

    def _disks(self, offer: Offer) -> list[compute.AttachedDisk]:
        boot = self.boots[offer.type.architecture]
        usual = "hyperdisk-balanced" if _HYPERDISK.match(offer.type.name) else "pd-balanced"
        labels = {POOL: self.request.pool, OWNER: _label(self.request.owner)}

        def disk(size_gb: int, kind: str | None, image: str | None, name: str) -> compute.AttachedDisk:
            made = compute.AttachedDiskInitializeParams(
                disk_size_gb=size_gb, disk_type=f"zones/{offer.zone}/diskTypes/{kind or usual}", labels=labels
            )
            if image is not None:
                made.source_image = image
            return compute.AttachedDisk(
                auto_delete=True, boot=image is not None, device_name=name, initialize_params=made
            )

        volumes = enumerate(self.machines.volumes, start=1)
        return [
            disk(boot.disk_gb, self.machines.disk_kind, boot.image, "boot"),
            *(disk(-(-volume.size // _GB), volume.kind, None, device_name(number)) for number, volume in volumes),
        ]

    def _accelerators(self, offer: Offer) -> list[compute.AcceleratorConfig]:
        if not offer.type.gpus or not offer.type.name.startswith(ATTACHES):
            return []  # those of other types are built in
        place = f"projects/{self.asked.project}/zones/{offer.zone}/acceleratorTypes/{offer.type.gpu}"
        return [compute.AcceleratorConfig(accelerator_type=place, accelerator_count=offer.type.gpus)]

    def _interface(self) -> compute.NetworkInterface:
        machines = self.machines
        interface = compute.NetworkInterface()
        if machines.network or not machines.subnets:
            interface.network = network_place(self.asked, machines.network or DEFAULT_NETWORK)
        if machines.subnets:
            interface.subnetwork = subnet_place(self.asked, machines.region, machines.subnets[0])
        if not machines.private:
            interface.access_configs = [compute.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
        return interface

    def rule(self) -> compute.Firewall:
        """What lets the pool's machines reach each other at the ports that are to be open among them."""
        tag = pool_tag(self.request.pool)
        ports = [str(port) for port in self.machines.ports]
        return compute.Firewall(
            name=tag,
            description="made by kubeq: open among the machines of one pool only",
            network=network_of_machines(self.asked, self.machines),
            direction="INGRESS",
            source_tags=[tag],
            target_tags=[tag],
            allowed=[compute.Allowed(I_p_protocol=name, ports=ports) for name in ("tcp", "udp")],
        )


def with_os_login(instance: compute.Instance) -> compute.Instance:
    """The same instance where nothing but OS Login is allowed: nobody logs in there with the pool's key."""
    kept = [item for item in instance.metadata.items if item.key not in (KEYS, OS_LOGIN)]
    told = compute.Instance(instance)
    told.metadata = compute.Metadata(items=kept)
    return told


def startup_script(asked: Compute, request: NodeRequest, node: NodeName, number: int, machine: Machine) -> str:
    """All that the instance runs at its first boot; at its end it asks Google to delete it."""
    path = f"projects/{asked.project}/zones/{machine.zone}/instances/{instance_name(node)}"
    url = f"{asked.endpoint}/compute/v1/{path}"
    text = machine_text(request, node, number, machine, replace(GCE, at_end=f"sh {_END}"))
    head, _, body = text.partition("\n")
    return f"{head}\n{_DELETES_ITSELF.format(path=_END, url=url)}{body}"


def device_name(number: int) -> str:
    """What the machine finds the volume of that number as: /dev/disk/by-id/google-NAME."""
    return f"kubeq-{number}"


def _scheduling(offer: Offer, lifetime_s: float) -> compute.Scheduling:
    """Whatever ends the machine deletes it, and nothing starts it again."""
    made = compute.Scheduling(
        automatic_restart=False,
        instance_termination_action="DELETE",
        max_run_duration=compute.Duration(seconds=int(lifetime_s)),
        provisioning_model="SPOT" if offer.spot else "STANDARD",
    )
    if offer.spot or offer.type.gpus:  # neither can be moved to another host
        made.on_host_maintenance = "TERMINATE"
    return made


def _label(value: str) -> str:
    """The text with the letters that Google takes in the value of a label."""
    return re.sub(r"[^a-z0-9_-]", "-", value.lower())[:63]
