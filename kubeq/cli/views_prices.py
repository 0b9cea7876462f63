"""How the answer of `prices` looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeq.actions.prices import Known
from kubeq.cli.output import columns
from kubeq.cli.shown import cell

FIELDS = ("machine_type", "price_per_hour", "spot_price_per_hour")


@dataclass(frozen=True, slots=True)
class PricesView:
    """Types with what they cost an hour in the region, and of when that is."""

    known: Known

    def text(self) -> Iterable[str]:
        seen = self.known
        yield f"{seen.provider} in {seen.region}, $/hour; {seen.prices.date}: {seen.prices.source}"
        yield from columns(
            ("type", "on demand", "spot at most"),
            [(kind, _price(plain), _price(spot)) for kind, plain, spot in seen.types],
        )

    def json(self) -> Mapping[str, Any]:
        seen = self.known
        return {
            "provider": seen.provider,
            "region": seen.region,
            "date": seen.prices.date,
            "source": seen.prices.source,
            "prices": [dict(zip(FIELDS, row, strict=True)) for row in seen.types],
        }

    def quiet(self) -> Iterable[str]:
        return [kind for kind, _, _ in self.known.types]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return FIELDS, [[cell(value) for value in row] for row in self.known.types]


def _price(price: float | None) -> str:
    return "?" if price is None else f"{price:.4g}"
