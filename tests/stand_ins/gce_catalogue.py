"""What Compute Engine's stand-in has: regions, types, images, networks, accounts; a test changes it at will."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.stand_ins.gce_wire import Json, link

PROJECT = "test-project"
ACCOUNT = f"kubeq-node@{PROJECT}.iam.gserviceaccount.com"
REGION = "europe-west4"
ZONES = (f"{REGION}-a", f"{REGION}-b", f"{REGION}-c")
ELSEWHERE = "us-central1-a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """A machine type. `gpus` are built in."""

    cpus: int
    memory_mb: int
    gpus: int = 0
    gpu: str = ""
    shared: bool = False
    architecture: str = "X86_64"


def _types() -> dict[str, Type]:
    return {
        "e2-micro": Type(cpus=2, memory_mb=1024, shared=True),
        "e2-standard-2": Type(cpus=2, memory_mb=8192),
        "e2-standard-4": Type(cpus=4, memory_mb=16384),
        "n1-standard-4": Type(cpus=4, memory_mb=15360),
        "n2-standard-8": Type(cpus=8, memory_mb=32768),
        "g2-standard-4": Type(cpus=4, memory_mb=16384, gpus=1, gpu="nvidia-l4"),
        "c4a-standard-4": Type(cpus=4, memory_mb=16384, architecture="ARM64"),
    }


def _images() -> dict[tuple[str, str], Json]:
    def image(name: str, family: str, size: int, architecture: str = "X86_64") -> Json:
        return {"name": name, "family": family, "diskSizeGb": str(size), "architecture": architecture}

    return {
        ("ubuntu-os-cloud", "noble-v20260513"): image("noble-v20260513", "ubuntu-2404-lts-amd64", 10),
        ("ubuntu-os-cloud", "noble-arm64-v1"): image("noble-arm64-v1", "ubuntu-2404-lts-arm64", 10, "ARM64"),
        (PROJECT, "mine"): image("mine", "", 20),
        (PROJECT, "with-driver"): image("with-driver", "drivers", 30),
        (PROJECT, "fedora-coreos-44"): image("fedora-coreos-44", "", 10),
        (PROJECT, "office"): {**image("office", "", 50), "guestOsFeatures": [{"type": "WINDOWS"}]},
    }


@dataclass(slots=True)
class Catalogue:
    """All that there is. `types_of`: what other zones than named have; `limits`: quotas of the region."""

    types: dict[str, Type] = field(default_factory=_types)
    without: dict[str, set[str]] = field(default_factory=dict)
    """Types that a zone does not have."""
    attachable: dict[str, int] = field(default_factory=lambda: {"nvidia-tesla-t4": 4})
    images: dict[tuple[str, str], Json] = field(default_factory=_images)
    networks: set[str] = field(default_factory=lambda: {"default", "other"})
    subnets: set[str] = field(default_factory=lambda: {"default", "small"})
    accounts: set[str] = field(default_factory=lambda: {ACCOUNT})
    default_account: str = f"1-compute@developer.{PROJECT}"
    """As whom machines act that are told of nobody; empty: there is none."""
    limits: dict[str, float] = field(
        default_factory=lambda: {"CPUS": 1000.0, "N2_CPUS": 1000.0, "PREEMPTIBLE_CPUS": 0.0}
    )
    limits_everywhere: dict[str, float] = field(default_factory=dict)
    may_read_accounts: bool = True
    denied: set[str] = field(default_factory=set)
    wants_os_login: bool = False
    """The organisation's policy allows no instance that turns OS Login off."""

    def regions(self) -> Mapping[str, list[str]]:
        """The zones by region."""
        return {REGION: list(ZONES), "us-central1": [ELSEWHERE]}

    def described(self, zone: str) -> list[Json]:
        """The types of a zone."""
        return [
            {
                "name": name,
                "zone": zone,
                "guestCpus": one.cpus,
                "memoryMb": one.memory_mb,
                "isSharedCpu": one.shared,
                "architecture": one.architecture,
                "accelerators": [{"guestAcceleratorType": one.gpu, "guestAcceleratorCount": one.gpus}]
                if one.gpus
                else [],
            }
            for name, one in self.types.items()
            if name not in self.without.get(zone, ())
        ]

    def region(self, name: str, used: Mapping[str, float]) -> Json:
        """A region with its zones, and its quotas of which so much is used."""
        return {
            "name": name,
            "status": "UP",
            "zones": [link("projects", PROJECT, "zones", zone) for zone in self.regions()[name]],
            "quotas": quotas(self.limits, used),
        }


def quotas(limits: Mapping[str, float], used: Mapping[str, float]) -> list[Json]:
    return [{"metric": name, "limit": limit, "usage": used.get(name, 0.0)} for name, limit in limits.items()]
