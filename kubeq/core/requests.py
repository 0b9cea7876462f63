"""How many requests were made of a backend's services, as jobs and nodes keep it. What counts them is in `metering`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeq.core.quantities import format_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """How many requests somebody made of queue and store, by the services' own names for each kind."""

    queue: Mapping[str, int] = field(default_factory=dict, hash=False)
    store: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"queue {format_counts(self.queue)}; store {format_counts(self.store)}"
