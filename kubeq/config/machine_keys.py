"""The keys that say what the machines of a cloud are to be; part of Config, and without meaning to other providers."""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.config import machine_values, values
from kubeq.config.key import key
from kubeq.core.machines import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineKeys:
    """What is asked of machines that a cloud makes."""

    zones: tuple[str, ...] = key(
        machine_values.place_name, None, "Zones for machines; without any, all of the region.", commas=True
    )
    machine_type: tuple[str, ...] = key(
        machine_values.place_name,
        None,
        "Types of machine, tried in this order; without any, the cheapest on which a task fits.",
        commas=True,
    )
    gpu_type: str | None = key(
        machine_values.place_name,
        None,
        "Kind of GPU for tasks that ask for some, in the cloud's words: `T4`, `nvidia-tesla-t4`; else any.",
    )
    spot: bool = key(values.flag, "no", "Machines that cost less and may be taken back at any time.")
    spot_budget: int = key(
        values.whole(0, 1_000_000), "10", "After so many spot machines of a pool that were taken back, ordinary ones."
    )
    ec2_image: str | None = key(values.text, None, "Image (AMI) that EC2 machines boot; else Ubuntu's newest LTS.")
    ec2_connect: str = key(
        values.choice("address", "ssm"),
        "address",
        "How one gets to EC2 machines: port 22 opened to one's own `address`, or AWS's Session Manager, `ssm`.",
    )
    gce_image: str | None = key(
        values.text, None, "Image or family that Compute Engine machines boot; else Ubuntu's LTS."
    )
    gce_private: bool = key(
        values.flag,
        "no",
        "Compute Engine machines have no address outside; `connect` goes through Google's proxy (IAP).",
    )
    boot_disk: int | None = key(values.size, None, "Size of a machine's boot disk; without it, as big as its image.")
    boot_disk_type: str | None = key(machine_values.place_name, None, "Type of the boot disk, in the cloud's words.")
    volumes: tuple[Volume, ...] = key(
        machine_values.volume,
        None,
        "Further disks of each machine, `PATH:SIZE[:TYPE]`; they go with the machine.",
        many=True,
    )
    machine_network: str | None = key(
        machine_values.resource_name, None, "Network (VPC) of machines; else the default one."
    )
    subnets: tuple[str, ...] = key(machine_values.resource_name, None, "Subnets for machines.", commas=True)
    network_tags: tuple[str, ...] = key(
        machine_values.resource_name,
        None,
        "Network tags, on EC2 security groups, that machines get besides kubeq's.",
        commas=True,
    )
    open_port: tuple[int, ...] = key(
        values.whole(1, 65535), None, "Ports open among the machines of a pool, to nobody else.", commas=True
    )
    node_identity: str | None = key(
        machine_values.resource_name,
        None,
        "As whom machines act: an instance profile, a service account; see `kubeq setup`.",
    )
    machine_labels: tuple[str, ...] = key(
        machine_values.label, None, "Labels, `NAME=VALUE`, on everything that is made for a pool.", commas=True
    )
    cluster_name: str | None = key(
        machine_values.place_name, None, "Name for the machines, a label on each; pools of different names share none."
    )
    lifetime_s: float = key(
        values.duration, "24h", "How long a machine lives at most: the cloud ends it then.", name="lifetime"
    )
