"""Machines of a cloud in kubeq's words: what a pool asks for, what could be had, and what was made.

Frozen records without behaviour; which offer is taken first is in `offers_in_order`. Sizes are bytes, prices are US
dollars an hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kubeq.core.resources import Resources, minus

SYSTEM_MEMORY = 512 * 2**20
"""Bytes that firmware, kernel, Docker and the agent of a machine are left at least: a generous guess, because a task
that is promised more than the agent then finds there would wait for ever."""
LIFETIME_S = 24 * 3600.0
"""How long a machine lives at most, whatever it does, unless somebody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A further disk: mounted at `path`, at least that big. `kind` in the cloud's words; None: its usual one."""

    path: str
    size: int
    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What the machines of a pool are to be. All of it makes the pool's identity.

    `region` and `zones`: where; without zones, any of the region. `types`: what kinds, in this order; without any, the
    cheapest that has what `need` asks for. `spot`: machines that may be taken back, until `spot_budget` of the pool's
    were; then others. `identity` is as whom a machine acts: an instance profile, a service account. `disk` is the boot
    disk, None as big as the image wants it. `tags` are network tags or security groups, `ports` are open among the
    pool's machines only. `private`: they have no address outside. `lifetime_s` is the hard end of each.
    """

    region: str
    zones: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    need: Resources = field(default_factory=Resources)
    gpus: int = 0
    gpu: str | None = None
    spot: bool = False
    spot_budget: int = 0
    image: str | None = None
    disk: int | None = None
    disk_kind: str | None = None
    volumes: tuple[Volume, ...] = ()
    network: str | None = None
    subnets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    private: bool = False
    identity: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    lifetime_s: float = LIFETIME_S


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineType:
    """A kind of machine as its cloud describes it. `gpu` is the kind of its `gpus`, `architecture` Linux's word."""

    name: str
    resources: Resources
    gpus: int = 0
    gpu: str | None = None
    architecture: str = "x86_64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A type in a zone, at a price an hour (None: not known)."""

    type: MachineType
    zone: str
    spot: bool
    price: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that was made: the cloud's id for it, what it is and where, and what it costs an hour."""

    id: str | None = None
    type: str
    zone: str
    spot: bool
    price: float | None = None


def with_id(told: Machine | None, known: Machine | None) -> Machine | None:
    """What an agent tells of its machine, with the cloud's id, which only whoever made the machine knows."""
    if told is None or known is None:
        return told or known
    return replace(told, id=told.id or known.id)


def usable(kind: MachineType, system_share: float) -> Resources:
    """What a machine of the type can give to attempts: `system_share` of its memory stays with the system, or more."""
    memory = kind.resources.memory
    if memory is None:
        return kind.resources
    return minus(kind.resources, Resources(cpu=0.0, memory=max(SYSTEM_MEMORY, int(memory * system_share))))


def offers_in_order(offers: Iterable[Offer], types: tuple[str, ...]) -> list[Offer]:
    """The offers as they are to be tried: by the order of the types where some are named, then the cheapest first.

    One without a price comes after those with one, the smaller machine first.
    """

    def rank(offer: Offer) -> tuple[object, ...]:
        asked = types.index(offer.type.name) if offer.type.name in types else len(types)
        unknown = offer.price is None
        size = (offer.type.gpus, offer.type.resources.cpu, offer.type.resources.memory or 0)
        return asked, unknown, offer.price or 0.0, size, offer.type.name, offer.zone

    return sorted(offers, key=rank)
