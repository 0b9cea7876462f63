"""What whoever starts machines of Compute Engine has to be allowed. As whom the machines act is theirs to make."""

from __future__ import annotations

from kubeq.core.provisioning import Permission

_IN_PROJECT = (
    "compute.acceleratorTypes.list", "compute.disks.create", "compute.firewalls.create", "compute.firewalls.delete",
    "compute.firewalls.get", "compute.firewalls.list", "compute.globalOperations.get", "compute.globalOperations.list",
    "compute.images.get", "compute.images.getFromFamily", "compute.images.useReadOnly", "compute.instances.create",
    "compute.instances.delete", "compute.instances.get", "compute.instances.getSerialPortOutput",
    "compute.instances.list", "compute.instances.setLabels", "compute.instances.setMetadata",
    "compute.instances.setServiceAccount", "compute.instances.setTags", "compute.machineTypes.list",
    "compute.networks.get", "compute.networks.updatePolicy", "compute.projects.get", "compute.regions.get",
    "compute.regions.list", "compute.subnetworks.get", "compute.subnetworks.list", "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp", "compute.zoneOperations.get", "compute.zoneOperations.list",
)  # fmt: skip


def acting(project: str) -> list[Permission]:
    """What the machines' account is allowed besides what queue and store need: to delete a machine at its end.

    No role limits that to the machine itself. Without it a machine only stops, and its disks cost until somebody looks.
    """
    return [
        Permission(
            actions=("compute.instances.delete",),
            resources=(f"//cloudresourcemanager.googleapis.com/projects/{project}",),
        )
    ]


def launching(project: str, account: str | None) -> list[Permission]:
    """What whoever starts and ends machines of the project, which act as that account, has to be allowed."""
    name = account or "the default service account of Compute Engine"
    return [
        Permission(actions=_IN_PROJECT, resources=(f"//cloudresourcemanager.googleapis.com/projects/{project}",)),
        Permission(
            actions=("iam.serviceAccounts.actAs",),
            resources=(f"//iam.googleapis.com/projects/{project}/serviceAccounts/{name}",),
        ),
    ]
