"""Whether the project's quotas leave room for a machine. Google lists them with the project and with each region.

A quota of which nothing is listed is not judged here: Google says no when the machine is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kubeq.core.machines import MachineType
from kubeq.nodes.gce_client import compute

_COMMON = ("n1", "e2", "f1", "g1")
"""The series that share the quota CPUS; each other has its own:
https://cloud.google.com/compute/resource-usage (May 2026)."""


class Quotas:
    """What is left, by Google's name of the quota."""

    def __init__(self, project: compute.Project, region: compute.Region) -> None:
        self._region = region.name
        self._everywhere = _by_name(project.quotas)
        self._here = _by_name(region.quotas)

    def lack(self, kind: MachineType, spot: bool) -> str | None:
        """Which quota does not leave room for one such machine, in a sentence."""
        for quota, where, wanted in self._asked(kind, spot):
            if quota.limit - quota.usage < wanted:
                left = max(0, quota.limit - quota.usage)
                return (
                    f"the quota {quota.metric} {where} leaves {left:g} of {quota.limit:g}, "
                    f"and a machine of type {kind.name} needs {wanted:g}"
                )
        return None

    def _asked(self, kind: MachineType, spot: bool) -> Iterator[tuple[compute.Quota, str, float]]:
        here, everywhere = f"in {self._region}", "in all regions together"
        series = kind.name.partition("-")[0]
        cpus = "CPUS" if series in _COMMON else f"{series.upper()}_CPUS"
        card = (kind.gpu or "").removeprefix("nvidia-").removeprefix("tesla-").replace("-", "_").upper()
        for metrics, where, wanted in (
            (self._here, (here, cpus, "PREEMPTIBLE_CPUS"), kind.resources.cpu),
            (self._here, (here, f"NVIDIA_{card}_GPUS", f"PREEMPTIBLE_NVIDIA_{card}_GPUS"), float(kind.gpus)),
            (self._here, (here, "INSTANCES", ""), 1.0),
            (self._everywhere, (everywhere, "CPUS_ALL_REGIONS", ""), kind.resources.cpu),
            (self._everywhere, (everywhere, "GPUS_ALL_REGIONS", ""), float(kind.gpus)),
        ):
            place, name, name_of_spot = where
            # Spot machines count against the usual quota in projects that were given none for them.
            granted = metrics.get(name_of_spot) if spot else None
            quota = granted if granted is not None and granted.limit else metrics.get(name)
            if quota is not None and wanted:
                yield quota, place, wanted


def _by_name(quotas: Iterable[compute.Quota]) -> Mapping[str, compute.Quota]:
    return {quota.metric: quota for quota in quotas}
