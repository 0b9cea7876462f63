"""How the answer of `hosts` looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeq.cli.output import columns
from kubeq.core.quantities import format_size
from kubeq.nodes.base import HostSeen

HEADER = ("name", "address", "machine", "python", "docker", "cpus", "free", "problem")


@dataclass(frozen=True, slots=True)
class HostsView:
    """Hosts, a line each."""

    hosts: Sequence[HostSeen]

    def text(self) -> Iterable[str]:
        return columns(HEADER, [self._row(each, format_size(each.free) if each.free else "-") for each in self.hosts])

    def json(self) -> Mapping[str, Any]:
        return {
            "hosts": [
                {
                    "name": each.name,
                    "address": each.address,
                    "labels": dict(each.labels),
                    "machine": each.machine,
                    "python": each.python,
                    "docker": each.docker,
                    "cpus": each.cpus,
                    "free_bytes": each.free,
                    "problem": each.problem,
                }
                for each in self.hosts
            ]
        }

    def quiet(self) -> Iterable[str]:
        return [each.name for each in self.hosts if each.problem is None]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return HEADER, [self._row(each, each.free) for each in self.hosts]

    def _row(self, each: HostSeen, free: object) -> Sequence[object]:
        known = (each.machine or "-", each.python or "-", each.docker or "-", each.cpus or "-", free or "-")
        return (each.name, each.address, *known, each.problem or "")
