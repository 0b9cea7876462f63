"""Compute Engine, as its stand-in emulates it, for the suite of clouds' machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubeq.core.machines import Machines
from kubeq.core.resources import Resources
from kubeq.nodes.gce import GceProvider, GceSettings
from kubeq.nodes.gce_api import Patience
from tests.contract.machine_clouds import Hurry
from tests.stand_ins.gce import FakeGce, Fault
from tests.stand_ins.gce_catalogue import REGION, ZONES

PRICES = {"e2-standard-2": 0.07, "e2-standard-4": 0.13}


@dataclass
class GceRig:
    """See CloudRig."""

    gce: FakeGce
    folder: Path
    machines: Machines = field(
        default_factory=lambda: Machines(
            region=REGION, types=("e2-standard-2", "e2-standard-4"), labels=(("team", "sky"),)
        )
    )

    def provider(self, **settings: Any) -> GceProvider:
        hurry = Hurry()
        patience = Patience(sleep=hurry.sleep, now=hurry.now, draw=lambda: 0.9)
        return GceProvider(GceSettings(state_dir=self.folder, **settings), _price, patience)

    def no_room(self, *, zone: str | None = None, spot: bool | None = None) -> None:
        model = "" if spot is None else ":SPOT" if spot else ":STANDARD"
        self.gce.instances.exhausted = {f"{each}{model}" for each in ([zone] if zone else ZONES)}

    def refuse_launches(self, times: int) -> str:
        said = "The account is blocked because it is suspected of something"
        self.gce.faults.append(
            Fault(method="instances.insert", status=400, reason="invalid", message=said, times=times)
        )
        return said

    def deny_launches(self) -> None:
        self.gce.catalogue.denied.add("compute.instances.create")

    def throttle(self, times: int) -> None:
        fault = Fault(method="instances.insert", status=403, reason="rateLimitExceeded", times=times)
        self.gce.faults.append(fault)

    def lose_answers(self, times: int) -> None:
        self.gce.faults.append(Fault(method="instances.insert", applied=True, times=times))

    def gone(self, gone: bool) -> None:
        self.gce.gone = gone

    def hide_new(self, seconds: float) -> None:
        self.gce.instances.freeze()

    def slow(self, seconds: float) -> None:
        self.gce.instances.boot_s = seconds

    def failing(self) -> None:
        self.gce.instances.failing = True

    def preempt(self, node: str) -> None:
        self.gce.instances.preempt(f"kubeq-{node}")

    def add_stranger(self) -> None:
        (zone, _), one = next(iter(self.gce.instances.by_name.items()))
        self.gce.instances.by_name[zone, "web"] = {**one, "name": "web", "labels": {"pool": "kubeq"}}

    def standing(self) -> list[str]:
        return sorted(name.removeprefix("kubeq-") for name in self.gce.instances.states() if name != "web")

    def launches(self) -> int:
        return self.gce.calls["instances.insert"]

    def leftovers(self) -> list[str]:
        return list(self.gce.instances.rules)

    def wrong(self) -> Mapping[str, tuple[Machines, str]]:
        return {name: (replace(self.machines, **what), said) for name, what, said in _WRONG}


_WRONG: Sequence[tuple[str, Mapping[str, Any], str]] = (
    ("region", {"region": "mars-1"}, "Google has no region 'mars-1'"),
    ("zone", {"zones": ("us-central1-a",)}, f"the region {REGION} has no zone 'us-central1-a'"),
    ("type", {"types": ("e2-standard-2", "e9-huge")}, "there is no machine type 'e9-huge' in"),
    ("image", {"image": "nothing"}, "there is no image 'nothing' in the project"),
    ("image family", {"image": "family/nothing"}, "there is no image family 'nothing' in the project"),
    ("network", {"network": "nothing"}, "there is no network 'nothing'"),
    ("subnet", {"subnets": ("nothing",)}, f"there is no subnet 'nothing' in {REGION}"),
    ("identity", {"identity": "nobody@test-project.iam.gserviceaccount.com"}, "there is no service account nobody@"),
    ("gpu", {"gpus": 2, "image": "mine"}, "the machine type e2-standard-2 has no GPUs, and 2 are asked for"),
    ("no type so", {"types": (), "need": Resources(cpu=5000)}, "has cpu=5000 for a task"),
)


def _price(provider: str, kind: str, region: str, spot: bool) -> float | None:
    known = PRICES.get(kind)
    return known and known * (0.4 if spot else 1)
