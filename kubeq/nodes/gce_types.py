"""Which of Google's machine types a pool's machines may be: those that are named, or all on which its work fits.

What one costs, and where it can be had, is in `gce_offers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from kubeq.core.machines import Machines, MachineType, usable
from kubeq.core.resources import Resources, fits
from kubeq.core.table_rules import listing
from kubeq.errors import UsageError
from kubeq.nodes.gce_api import Compute, together
from kubeq.nodes.gce_catalogue import accelerators, machine_types
from kubeq.nodes.gce_client import compute
from kubeq.nodes.gce_names import PROVIDER
from kubeq.nodes.prices import Price

SYSTEM_SHARE = 0.05
"""Of a machine's memory, what is left to its system: what a type has on paper never reaches the tasks whole."""
ATTACHES = "n1-"
"""The only types to which GPUs are attached; others have them built in:
https://cloud.google.com/compute/docs/gpus (May 2026)."""
_LINUX = {"X86_64": "x86_64", "ARM64": "aarch64"}


def types_of_zones(asked: Compute, machines: Machines, zones: Sequence[str]) -> Mapping[str, list[MachineType]]:
    """The types that fit, by zone. Raises UsageError saying why there is none, or which named one cannot be used."""
    named = machines.types
    found = together([partial(_found, asked, zone, machines) for zone in zones])
    fitting = {
        zone: [kind for kind in kinds if _lack(kind, machines) is None]
        for zone, kinds in zip(zones, found, strict=True)
    }
    every = {kind.name: kind for kinds in found for kind in kinds}
    for name in named:
        _check(name, every, machines, zones)
    if not any(fitting.values()):
        gpus = f" and {machines.gpus} GPUs" if machines.gpus else ""
        kind = f" of kind {machines.gpu}" if machines.gpu else ""
        raise UsageError(
            f"no machine type in {listing(zones)} has {machines.need}{gpus}{kind} for a task",
            hint="ask for less with -r, or name a type or other zones",
        )
    return fitting


def price_of(kind: MachineType, region: str, spot: bool, price: Price) -> float | None:
    """What a machine of the type costs an hour; where GPUs are attached to it, with them."""
    own = price(PROVIDER, kind.name, region, spot)
    if not kind.gpus or not kind.gpu or not _attaches(kind):
        return own
    each = price(PROVIDER, kind.gpu, region, spot)
    return None if own is None or each is None else own + kind.gpus * each


def _found(asked: Compute, zone: str, machines: Machines) -> list[MachineType]:
    described = machine_types(asked, zone, machines.types)
    kinds = [_of(one) for one in described if machines.types or _is_plain(one)]
    if not machines.gpus or not machines.gpu or not any(_attaches(kind) for kind in kinds):
        return kinds
    most = accelerators(asked, zone).get(machines.gpu, 0)
    return list(_with_gpus(kinds, machines, most))


def _with_gpus(kinds: Iterable[MachineType], machines: Machines, most: int) -> Iterable[MachineType]:
    """The types, those that take GPUs with as many as are asked for."""
    for kind in kinds:
        attached = _attaches(kind) and machines.gpus <= most
        yield replace(kind, gpus=machines.gpus, gpu=machines.gpu) if attached else kind


def _attaches(kind: MachineType) -> bool:
    return kind.name.startswith(ATTACHES)


def _is_plain(described: compute.MachineType) -> bool:
    """Whether it is one that may be taken unasked: its cpus are its own, and it runs what most images are made for."""
    odd = described.is_shared_cpu or described.deprecated.state or described.name.endswith("-metal")
    return not odd and described.architecture in ("", "X86_64")


def _of(described: compute.MachineType) -> MachineType:
    gpus = [one for one in described.accelerators if one.guest_accelerator_type.startswith("nvidia")]
    return MachineType(
        name=described.name,
        resources=Resources(cpu=float(described.guest_cpus), memory=described.memory_mb * 2**20),
        gpus=sum(one.guest_accelerator_count for one in gpus),
        gpu=gpus[0].guest_accelerator_type if gpus else None,
        architecture=_LINUX.get(described.architecture, "x86_64"),
    )


def _check(name: str, every: Mapping[str, MachineType], machines: Machines, zones: Sequence[str]) -> None:
    if name not in every:
        raise UsageError(
            f"there is no machine type {name!r} in {listing(zones)}",
            hint=f"gcloud compute machine-types list --zones {','.join(zones)}",
        )
    lack = _lack(every[name], machines)
    if lack is not None:
        raise UsageError(f"the machine type {name} has {lack}", hint="name another type, or none")


def _lack(kind: MachineType, machines: Machines) -> str | None:
    """What the type has too little of, if anything."""
    if kind.gpus < machines.gpus:
        names = "" if machines.gpu else "; to attach some, name their kind too" * _attaches(kind)
        wanted = f"{machines.gpus} of kind {machines.gpu}" if machines.gpu else str(machines.gpus)
        return f"{kind.gpus or 'no'} GPUs, and {wanted} are asked for{names}"
    if machines.gpu is not None and kind.gpu != machines.gpu:
        return f"{f'GPUs of kind {kind.gpu}' if kind.gpu else 'no GPU'}, and {machines.gpu} is asked for"
    if not machines.types and kind.gpus and not machines.gpus:
        return "GPUs that nobody asks for"
    if not fits(machines.need, usable(kind, SYSTEM_SHARE)):
        return f"{usable(kind, SYSTEM_SHARE)} for tasks, and {machines.need} is asked for"
    return None
