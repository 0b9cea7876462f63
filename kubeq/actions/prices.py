"""What machines cost where the configuration makes them: as it is known, and asked for anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kubeq.actions.session import Session
from kubeq.errors import NotFound, UsageError
from kubeq.nodes.open import PRICE_LISTS
from kubeq.nodes.prices import Prices, keep_prices, prices_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The prices of one provider in one region. `types` with the price of an ordinary machine and of a spot one."""

    prices: Prices
    provider: str
    region: str
    types: Sequence[tuple[str, float | None, float | None]]


def known_prices(session: Session, types: Sequence[str]) -> Known:
    """What those types cost (none: every type that is known by its name). Raises UsageError without a cloud."""
    provider, region = _where(session)
    prices = prices_of(session.config.cache_dir)
    found = [
        (kind, prices.price(provider, kind, region), prices.price(provider, kind, region, True))
        for kind in types or prices.types(provider, region)
    ]
    return Known(prices=prices, provider=provider, region=region, types=found)


def refresh_prices(session: Session) -> None:
    """Have today's prices of the configuration's region. Raises BackendError, NotFound for a region without any."""
    provider, region = _where(session)
    table = PRICE_LISTS[provider](region)
    if not table:
        raise NotFound(
            f"the price list of {provider} has nothing for {region}", hint="look whether there is such a region"
        )
    today = datetime.fromtimestamp(session.clock.now(), UTC).date().isoformat()
    asked = Prices(date=today, source=f"the price list of {provider}", tables={provider: {region: table}})
    keep_prices(session.config.cache_dir, asked)


def _where(session: Session) -> tuple[str, str]:
    provider, region = session.config.provider, session.region
    if provider not in PRICE_LISTS or region is None:
        raise UsageError(
            "prices are of a cloud and a region, and the configuration names none",
            hint="kubeq prices -o provider=ec2 -o region=eu-west-1",
        )
    return provider, region
