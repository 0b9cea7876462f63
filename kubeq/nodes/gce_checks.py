"""Whether what a pool's machines name exists: image, network, subnet, account, disks, labels. Each in one sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeq.core.machines import Machines
from kubeq.core.quantities import format_size
from kubeq.errors import AccessDenied, UsageError
from kubeq.nodes.gce_api import Compute
from kubeq.nodes.gce_catalogue import (
    ACTS_AS,
    has_service_account,
    image_of,
    lacking_permissions,
    may_act_as,
    network_of,
    newest_image,
    subnet_of,
)
from kubeq.nodes.gce_client import compute
from kubeq.nodes.machine_boot import check_runs_text

DEFAULT_ACCOUNT = "default"
"""Google's word for the account that Compute Engine makes in each project."""
DEFAULT_NETWORK = "default"
PERMISSIONS = (
    *("compute.instances.create", "compute.disks.create", "compute.instances.delete", "compute.instances.setLabels"),
    *("compute.instances.setMetadata", "compute.instances.setServiceAccount", "compute.instances.setTags"),
)
"""Without any of these no machine is made or ended."""
LONGEST_LIFE_S = 120 * 86400.0
SHORTEST_LIFE_S = 30.0
"""https://cloud.google.com/compute/docs/instances/limit-vm-runtime (May 2026)."""
_DEFAULT_IMAGES = {
    "x86_64": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64",
    "aarch64": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64",
}
_ARCHITECTURES = {"x86_64": "X86_64", "aarch64": "ARM64"}
_GB = 2**30
_IMAGE = re.compile(r"(?:(?:.*/)?projects/(?P<project>[^/]+)/global/images/)?(?P<family>family/)?(?P<name>[^/]+)")
_PLACE = re.compile(
    r"(?:.*/)?projects/(?P<project>[^/]+)/(?:global|regions/[^/]+)/(?:networks|subnetworks)/(?P<name>[^/]+)"
)
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.gserviceaccount\.com")
_DISK = re.compile(r"(pd|hyperdisk)-[a-z-]+")
_TAG = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """From what a machine boots: Google's name of the image, and how big its disk is, in GiB."""

    image: str
    disk_gb: int


def check_words(machines: Machines) -> None:
    """Raise UsageError for whatever Google would not take, as far as that can be told without asking it."""
    if not SHORTEST_LIFE_S <= machines.lifetime_s <= LONGEST_LIFE_S:
        raise UsageError(
            f"Google ends machines by itself after 30 seconds to 120 days, not {machines.lifetime_s:g} s",
            hint="give a lifetime in between",
        )
    for key, value in machines.labels:
        if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise UsageError(
                f"Google takes no label {key}={value}",
                hint="lower-case letters, digits, - and _, at most 63 of them; a key begins with a letter",
            )
    for tag in machines.tags:
        if not _TAG.fullmatch(tag):
            raise UsageError(f"Google takes no network tag {tag!r}", hint="lower-case letters, digits and -")
    for kind in (machines.disk_kind, *(volume.kind for volume in machines.volumes)):
        if kind == "local-ssd":
            raise UsageError("a local SSD is no volume: Google makes it with the type of machine", hint="name pd-ssd")
        if kind is not None and not _DISK.fullmatch(kind):
            raise UsageError(f"Google has no disks of the type {kind!r}", hint="for instance pd-balanced or pd-ssd")
    if len(machines.subnets) > 1:
        raise UsageError("a subnet of Google is in all zones of its region", hint="name one subnet")
    identity = machines.identity
    if identity not in (None, DEFAULT_ACCOUNT) and not _ACCOUNT.fullmatch(identity or ""):
        raise UsageError(
            f"{identity!r} is not the address of a service account",
            hint="it looks like NAME@PROJECT.iam.gserviceaccount.com",
        )


def find_image(asked: Compute, machines: Machines, architecture: str) -> Boot:
    """From what machines of that architecture boot. Raises UsageError."""
    if machines.gpus and machines.image is None:
        raise UsageError(
            "a machine with a GPU boots from an image with the GPU's driver, and none is named",
            hint="for instance projects/ubuntu-os-accelerator-images/global/images/family/FAMILY",
        )
    named = machines.image or _DEFAULT_IMAGES[architecture]
    parts = _IMAGE.fullmatch(named)
    if parts is None:
        raise UsageError(f"{named!r} is not the name of an image", hint="projects/P/global/images/NAME, or family/NAME")
    project = parts["project"] or asked.project
    find = newest_image if parts["family"] else image_of
    found = find(asked, project, parts["name"])
    if found is None:
        word = "image family" if parts["family"] else "image"
        raise UsageError(
            f"there is no {word} {parts['name']!r} in the project {project}, or it may not be read",
            hint=f"gcloud compute images list --project {project}",
        )
    check_runs_text(found.name, windows=any(feature.type_ == "WINDOWS" for feature in found.guest_os_features))
    if found.architecture and found.architecture != _ARCHITECTURES[architecture]:
        raise UsageError(
            f"the image {found.name} is for {found.architecture}, and the machine type for {architecture}",
            hint="name another image or another type",
        )
    return Boot(image=f"projects/{project}/global/images/{found.name}", disk_gb=_disk_gb(machines, found))


def check_network(asked: Compute, machines: Machines) -> None:
    """Raise UsageError for a network or subnet that is not there."""
    if machines.subnets:
        project, name = _placed(asked, machines.subnets[0])
        if subnet_of(asked, project, machines.region, name) is None:
            raise UsageError(
                f"there is no subnet {name!r} in {machines.region} of the project {project}",
                hint=f"gcloud compute networks subnets list --project {project} --regions {machines.region}",
            )
    if machines.network or not machines.subnets:
        project, name = _placed(asked, machines.network or DEFAULT_NETWORK)
        if network_of(asked, project, name) is None:
            raise UsageError(
                f"there is no network {name!r} in the project {project}",
                hint=f"gcloud compute networks list --project {project}, and name one",
            )


def check_permissions(asked: Compute, machines: Machines) -> None:
    """Raise AccessDenied for who may not make machines, as far as we may know."""
    lacking = lacking_permissions(asked, PERMISSIONS)
    if lacking:
        raise AccessDenied(
            f"it is not permitted to make machines in the project {asked.project}: {lacking[0]} is not granted",
            hint="have somebody grant roles/compute.instanceAdmin.v1 and roles/iam.serviceAccountUser",
        )


def check_account(asked: Compute, machines: Machines, usual: str) -> None:
    """Raise UsageError for a service account that is not there, AccessDenied for one that one may not hand on, as far
    as we may know. `usual`: the project's default one; empty if it has none.
    """
    email = usual if machines.identity in (None, DEFAULT_ACCOUNT) else machines.identity
    if not email:
        raise UsageError(
            f"the project {asked.project} has no default service account, and no other is named",
            hint="name one: node_identity = NAME@PROJECT.iam.gserviceaccount.com",
        )
    if email != usual and has_service_account(asked, email) is False:
        raise UsageError(
            f"there is no service account {email}",
            hint="gcloud iam service-accounts list shows them, gcloud iam service-accounts create makes one",
        )
    if may_act_as(asked, email) is False:
        raise AccessDenied(
            f"it is not permitted to have machines act as {email}: {ACTS_AS} is not granted",
            hint="have somebody grant roles/iam.serviceAccountUser on that account",
        )


def network_place(asked: Compute, named: str) -> str:
    """A network as Google writes it."""
    project, name = _placed(asked, named)
    return f"projects/{project}/global/networks/{name}"


def network_of_machines(asked: Compute, machines: Machines) -> str:
    """The network that the machines are in: the one that is named, or else that of their subnet."""
    if machines.subnets and not machines.network:
        project, name = _placed(asked, machines.subnets[0])
        found = subnet_of(asked, project, machines.region, name)
        if found is not None:
            return found.network
    return network_place(asked, machines.network or DEFAULT_NETWORK)


def subnet_place(asked: Compute, region: str, named: str) -> str:
    """A subnet as Google writes it."""
    project, name = _placed(asked, named)
    return f"projects/{project}/regions/{region}/subnetworks/{name}"


def _placed(asked: Compute, named: str) -> tuple[str, str]:
    parts = _PLACE.fullmatch(named)
    return (parts["project"], parts["name"]) if parts else (asked.project, named)


def _disk_gb(machines: Machines, image: compute.Image) -> int:
    if machines.disk is None:
        return image.disk_size_gb
    wanted = -(-machines.disk // _GB)
    if wanted < image.disk_size_gb:
        raise UsageError(
            f"the boot disk of {format_size(machines.disk)} is too small for the image {image.name}",
            hint=f"it needs {image.disk_size_gb} GiB",
        )
    return wanted
