"""Resources: what an attempt needs and what a node has. Parsing, printing, and whether one fits the other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeq.core.quantities import format_size, parse_size
from kubeq.errors import UsageError

_CPU = re.compile(r"\d{1,6}(\.\d{1,9})?", re.ASCII)
_GPUS = re.compile(r"[0-9]|[1-5][0-9]|6[0-4]", re.ASCII)
SMALLEST_MEMORY = 6 * 2**20
"""Docker's minimum for a memory limit, 6 MiB (documentation of `docker run --memory`)."""
SMALLEST_CPU = 0.01
"""Docker's minimum for `--cpus`: a quota of 1 ms in a period of 100 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """An amount of cpu (in cores, may be a fraction), memory (bytes; None: not limited, not counted) and whole GPUs."""

    cpu: float = 1.0
    memory: int | None = None
    gpus: int = 0

    def __str__(self) -> str:
        parts = [f"cpu={self.cpu:g}"]
        if self.memory is not None:
            parts.append(f"memory={format_size(self.memory).replace(' ', '')}")
        if self.gpus:
            parts.append(f"gpu={self.gpus}")
        return ",".join(parts)


def parse_resources(text: str, default: Resources) -> Resources:
    """`cpu=0.5,memory=2G,gpu=1` over the defaults. Raises UsageError naming the part that is wrong."""
    cpu, memory, gpus = default.cpu, default.memory, default.gpus
    seen: set[str] = set()
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise UsageError(f"the resource {part.strip()!r} has no value", hint="write cpu=1,memory=2G")
        if name in seen:
            raise UsageError(f"the resource {name!r} is given twice", hint=f"write {name}={value} once")
        seen.add(name)
        match name:
            case "cpu":
                cpu = parse_cpu(value)
            case "memory":
                memory = parse_memory(value)
            case "gpu":
                gpus = parse_gpus(value)
            case _:
                raise UsageError(f"unknown resource {name!r}", hint="the resources are cpu, memory and gpu")
    return Resources(cpu=cpu, memory=memory, gpus=gpus)


def parse_cpu(text: str) -> float:
    """Cores, a fraction allowed. Raises UsageError."""
    if not _CPU.fullmatch(text.strip()) or float(text) < SMALLEST_CPU:
        raise UsageError(f"{text!r} is not a number of cpus", hint=f"write cpu=2 or cpu=0.5, at least {SMALLEST_CPU}")
    return float(text)


def parse_gpus(text: str) -> int:
    """Whole devices: nobody shares one. Raises UsageError."""
    if not _GPUS.fullmatch(text):
        raise UsageError(f"{text!r} is not a number of GPUs", hint="write gpu=1, at most gpu=64")
    return int(text)


def parse_memory(text: str) -> int:
    """Bytes. Raises UsageError, also for less than a container can be limited to."""
    memory = parse_size(text)
    if memory < SMALLEST_MEMORY:
        raise UsageError(f"{text!r} is too little memory for a container", hint="the least is 6Mi")
    return memory


def fits(need: Resources, free: Resources) -> bool:
    """Whether `need` can be met from `free`. Free memory None means that memory is not counted there."""
    if need.cpu > free.cpu + 1e-9 or need.gpus > free.gpus:
        return False
    return need.memory is None or free.memory is None or need.memory <= free.memory


def minus(free: Resources, need: Resources) -> Resources:
    """What is left of `free` once `need` is taken; never below zero."""
    memory = None if free.memory is None else max(0, free.memory - (need.memory or 0))
    return Resources(cpu=max(0.0, free.cpu - need.cpu), memory=memory, gpus=max(0, free.gpus - need.gpus))
