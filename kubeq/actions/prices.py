"""What machines cost where the configuration makes them: as it is known, and asked for anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

from kubeq.actions.session import Session
from kubeq.core.table_rules import listing
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
    """What those types cost (none: every type that is known by its name).

    Raises UsageError without a cloud, NotFound where nothing of it is known.
    """
    provider, region = _where(session)
    prices = prices_of(session.config.cache_dir)
    if region not in prices.tables.get(provider, {}):
        raise _unknown_region(prices, provider, region)
    found = [
        (kind, prices.price(provider, kind, region), prices.price(provider, kind, region, True))
        for kind in types or prices.types(provider, region)
    ]
    if all(plain is None and spot is None for _, plain, spot in found):
        raise _unknown_types(prices, provider, region, types)
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


def _unknown_region(prices: Prices, provider: str, region: str) -> NotFound:
    near = get_close_matches(region, prices.tables.get(provider, {}))
    meant = f"did you mean {listing(near)}? " if near else ""
    return NotFound(
        f"no price of {provider} is known in the region {region!r}",
        hint=f"{meant}kubeq prices --refresh asks {provider}'s price list for it",
    )


def _unknown_types(prices: Prices, provider: str, region: str, types: Sequence[str]) -> NotFound:
    """Also for who takes the argument for a region."""
    regions = [word for word in types if word in prices.tables[provider]]
    if regions:
        hint = f"{regions[0]} is a region: kubeq prices -o region={regions[0]}"
    else:
        near = dict.fromkeys(name for word in types for name in get_close_matches(word, prices.types(provider, region)))
        meant = f"did you mean {listing(list(near))}? " if near else ""
        hint = f"{meant}kubeq prices lists what is known, and kubeq prices --refresh asks for more"
    what = f"of {listing(types)} " if types else ""
    return NotFound(f"no price {what}is known in {region}", hint=hint)


def _where(session: Session) -> tuple[str, str]:
    provider, region = session.config.provider, session.region
    if provider not in PRICE_LISTS or region is None:
        raise UsageError(
            "prices are of a cloud and a region, and the configuration names none",
            hint="kubeq prices -o provider=ec2 -o region=eu-west-1",
        )
    return provider, region
