"""Which of EC2's instance types a pool's machines may be: those that are named, or all on which its work fits.

What one costs, and where it can be had, is in `ec2_plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kubeq.core.machines import Machines, MachineType, usable
from kubeq.core.resources import Resources, fits
from kubeq.errors import UsageError
from kubeq.nodes.ec2_calls import Ec2Calls, Said

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeInfoTypeDef

SYSTEM_SHARE = 0.04
"""Of a machine's memory, what is left to its system."""
LARGEST_REQUEST = 100
"""DescribeInstanceTypes takes no more names at once (Amazon EC2 API Reference)."""
LINUX = {"x86_64": "x86_64", "arm64": "aarch64"}
NVIDIA = "NVIDIA"


def types_for(calls: Ec2Calls, machines: Machines) -> list[MachineType]:
    """The types that fit, with those that are named in their order. Raises UsageError saying why there is none."""
    if machines.types:
        return [_checked(found, machines) for found in _named(calls, machines.types)]
    found = [kind for kind in _all(calls, machines.spot) if _lack(kind, machines) is None]
    if not found:
        gpus = f" and gpus={machines.gpus}" if machines.gpus else ""
        kind = f" of kind {machines.gpu}" if machines.gpu else ""
        raise UsageError(
            f"no machine type in {machines.region} has {machines.need}{gpus}{kind} for a task",
            hint="ask for less with -r, or name a type with -m",
        )
    return found


def _named(calls: Ec2Calls, names: Sequence[str]) -> list[MachineType]:
    described: dict[str, MachineType] = {}
    for start in range(0, len(names), LARGEST_REQUEST):
        part: Any = list(names[start : start + LARGEST_REQUEST])
        try:
            answer = calls.ask(
                f"the machine types of {calls.region}",
                partial(calls.ec2.describe_instance_types, InstanceTypes=part),
                expected={"InvalidInstanceType", "InvalidParameterValue"},
            )
        except Said as said:
            raise UsageError(
                f"EC2 has no such machine type in {calls.region}: {said.words.rstrip('.')}",
                hint="a type looks like m7i.large; aws ec2 describe-instance-types lists them",
            ) from said
        described.update({kind.name: kind for kind in map(_of, answer["InstanceTypes"])})
    return [described[name] for name in dict.fromkeys(names)]


def _all(calls: Ec2Calls, spot: bool) -> Iterable[MachineType]:
    """Those of the current generation that give all their cpus all the time and run what most images are made for."""
    wanted = {
        "current-generation": "true",
        "bare-metal": "false",
        "burstable-performance-supported": "false",
        "processor-info.supported-architecture": "x86_64",
        "supported-usage-class": "spot" if spot else "on-demand",
    }
    filters: Any = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
    token = ""
    while True:
        more: Any = {"NextToken": token} if token else {}
        answer = calls.ask(
            f"the machine types of {calls.region}",
            partial(calls.ec2.describe_instance_types, Filters=filters, **more),
        )
        yield from map(_of, answer["InstanceTypes"])
        token = answer.get("NextToken", "")
        if not token:
            return


def _of(described: InstanceTypeInfoTypeDef) -> MachineType:
    memory = described["MemoryInfo"]["SizeInMiB"] * 2**20
    cpus = described["VCpuInfo"]["DefaultVCpus"]
    gpus = [gpu for gpu in described.get("GpuInfo", {}).get("Gpus", []) if gpu.get("Manufacturer") == NVIDIA]
    machine = next((name for name in described["ProcessorInfo"]["SupportedArchitectures"] if name in LINUX), "x86_64")
    return MachineType(
        name=described["InstanceType"],
        resources=Resources(cpu=float(cpus), memory=memory),
        gpus=sum(gpu.get("Count", 1) for gpu in gpus),
        gpu=gpus[0]["Name"] if gpus else None,
        architecture=LINUX[machine],
    )


def _checked(kind: MachineType, machines: Machines) -> MachineType:
    lack = _lack(kind, machines)
    if lack is not None:
        raise UsageError(f"the machine type {kind.name} has {lack}", hint="name another type with -m, or none")
    return kind


def _lack(kind: MachineType, machines: Machines) -> str | None:
    """What the type has too little of, if anything."""
    if kind.gpus < machines.gpus:
        return f"{kind.gpus or 'no'} gpus, and {machines.gpus} are asked for"
    if machines.gpu is not None and (kind.gpu or "").lower() != machines.gpu.lower():
        return f"{f'gpus of kind {kind.gpu}' if kind.gpu else 'no gpu'}, and {machines.gpu} is asked for"
    if not machines.types and kind.gpus and not machines.gpus:
        return "gpus that nobody asks for"
    if not fits(machines.need, usable(kind, SYSTEM_SHARE)):
        return f"{usable(kind, SYSTEM_SHARE)} for tasks, and {machines.need} is asked for"
    return None
