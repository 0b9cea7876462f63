"""The image (AMI) that a pool's machines boot: the one that is named, else Ubuntu's LTS, with drivers for gpus."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeq.core.machines import Machines, MachineType
from kubeq.errors import UsageError
from kubeq.nodes.ec2_calls import Ec2Calls, Said
from kubeq.nodes.machine_boot import check_runs_text

PLAIN = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id"
"""Ubuntu's newest build of its LTS ("Find Ubuntu images on AWS"): its Python runs the agent."""
WITH_DRIVERS = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""The same with NVIDIA's drivers and container toolkit (AWS Deep Learning AMI release notes)."""
DEBIAN_WORDS = {"x86_64": "amd64", "aarch64": "arm64"}
EC2_WORDS = {"x86_64": "x86_64", "arm64": "aarch64"}
DISKS = ("gp3", "gp2", "io2", "io1", "st1", "sc1", "standard")
"""Amazon EBS User Guide, "Amazon EBS volume types"."""
GIB = 2**30
_ID = re.compile(r"ami-[0-9a-f]{8,17}", re.ASCII)
_PARAMETER = re.compile(r"(?:resolve:)?(?:ssm:)?(/[A-Za-z0-9_./-]+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage:
    """An image, the name of its first disk and how big that is at least (GiB), and what processor it is for."""

    id: str
    device: str
    size: int
    architecture: str


def image_for(calls: Ec2Calls, machines: Machines, types: list[MachineType]) -> BootImage:
    """The image that machines of those types boot. Raises UsageError for one that is not there or does not fit."""
    name = machines.image or _usual(types)
    identifier = name if _ID.fullmatch(name) else _of_parameter(calls, name)
    try:
        found = calls.ask(
            f"the image {identifier}",
            lambda: calls.ec2.describe_images(ImageIds=[identifier]),
            expected={"InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable"},
        )["Images"]
    except Said:
        found = []
    if not found or found[0].get("State", "available") != "available":
        raise UsageError(
            f"there is no image {identifier} in {calls.region} for this account",
            hint="an image belongs to one region; aws ec2 describe-images finds others",
        )
    described = found[0]
    check_runs_text(described.get("Name", identifier), windows=described.get("Platform", "").lower() == "windows")
    device = described.get("RootDeviceName", "/dev/sda1")
    sizes = [
        each.get("Ebs", {}).get("VolumeSize", 0)
        for each in described.get("BlockDeviceMappings", [])
        if each.get("DeviceName") == device
    ]
    architecture = EC2_WORDS.get(described["Architecture"], described["Architecture"])
    image = BootImage(id=identifier, device=device, size=max([8, *sizes]), architecture=architecture)
    _check(image, machines, types)
    return image


def _check(image: BootImage, machines: Machines, types: list[MachineType]) -> None:
    other = [kind for kind in types if kind.architecture != image.architecture]
    if other:
        raise UsageError(
            f"the image {image.id} is for {image.architecture}, and {other[0].name} is {other[0].architecture}",
            hint="name an image and types of one architecture",
        )
    for kind in (machines.disk_kind, *(volume.kind for volume in machines.volumes)):
        if kind not in (None, *DISKS):
            raise UsageError(f"EC2 has no disks of the type {kind!r}", hint=f"there are {', '.join(DISKS)}")
    if machines.disk is not None and machines.disk < image.size * GIB:
        raise UsageError(
            f"the image {image.id} needs a boot disk of {image.size} GiB, and {machines.disk / GIB:.1f} are asked for",
            hint="ask for a bigger boot disk, or for none",
        )


def _usual(types: list[MachineType]) -> str:
    kinds = {kind.architecture for kind in types}
    if len(kinds) > 1:
        raise UsageError("the machine types are of several architectures", hint="name types of one architecture")
    return WITH_DRIVERS if all(kind.gpus for kind in types) else PLAIN.format(DEBIAN_WORDS[kinds.pop()])


def _of_parameter(calls: Ec2Calls, name: str) -> str:
    """The image that a parameter of Systems Manager names."""
    parameter = _PARAMETER.fullmatch(name)
    if parameter is None:
        raise UsageError(f"{name!r} is no image of EC2", hint="write ami-0123456789abcdef0 or resolve:ssm:/a/parameter")
    path = parameter[1]
    try:
        answer = calls.ask(
            f"the parameter {path}",
            lambda: calls.ssm.get_parameter(Name=path),
            expected={"ParameterNotFound", "ValidationException"},
            service="ssm",
        )
    except Said as said:
        raise UsageError(
            f"Systems Manager in {calls.region} has no parameter {path} that names an image",
            hint="name an image with ec2_image: ami-0123456789abcdef0",
        ) from said
    return answer["Parameter"]["Value"]
