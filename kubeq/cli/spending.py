"""What a launch costs, shown before it is made, and the question whether it is to be made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubeq.actions.spending import Quote, warm_and_missing
from kubeq.actions.starting import AS_THE_POOL, Wish
from kubeq.cli.asking import ask
from kubeq.cli.global_options import Globals
from kubeq.cli.output import Output, columns
from kubeq.cli.shown import count
from kubeq.core.model import Pool
from kubeq.core.quantities import format_duration
from kubeq.errors import Interrupted, UsageError

HEADER = ("type", "zone", "class", "count", "$/hour each", "$/hour", "at most")


def quote_lines(quote: Quote) -> Iterable[str]:
    """The launch as a table, and what it comes to."""
    offer = quote.offer
    row = (
        offer.type.name,
        offer.zone,
        "spot" if offer.spot else "on demand",
        f"{quote.count:,}",
        "?" if offer.price is None else f"{offer.price:.4g}",
        "?" if quote.per_hour is None else f"{quote.per_hour:.4g}",
        f"{dollars(quote.at_most)} in {format_duration(quote.lifetime_s)}",
    )
    yield from columns(HEADER, [row])
    if offer.price is None:
        yield "the price is not known here; kubeq prices --refresh asks for it"
    if quote.work is not None and quote.work_s is not None:
        yield f"with every task at its time limit: {dollars(quote.work)} in {format_duration(quote.work_s)}"


def quote_record(quote: Quote) -> dict[str, Any]:
    """The launch as JSON has it."""
    return {
        "machine_type": quote.offer.type.name,
        "zone": quote.offer.zone,
        "class": "spot" if quote.offer.spot else "on demand",
        "count": quote.count,
        "warm": quote.warm,
        "price_per_hour": quote.offer.price,
        "total_per_hour": quote.per_hour,
        "lifetime_s": quote.lifetime_s,
        "at_most": quote.at_most,
        "estimate": quote.work,
    }


def agreed(output: Output, quote: Quote, *, yes: bool) -> bool:
    """Whether the machines are to be started: asked on the user's terminal; without one, or with `--yes`, they are."""
    if yes or not quote.count:
        return True
    table = [f"  {line}" for line in quote_lines(quote)]
    answer = ask(output, "\n".join([f"this starts {count(quote.count, 'machine')}:", *table, "go on?"]))
    return answer is None or answer


def agree_to_nodes(settings: Globals, pool: Pool, wanted: int) -> None:
    """Ask whether what the pool lacks to so many nodes is to be started; nothing where that costs nothing.

    Raises Interrupted if it is not to be, BackendError for what cannot be asked of the cloud.
    """
    if pool.machines is None or settings.yes:
        return
    warm, missing = warm_and_missing(settings.session, pool, wanted)
    offers = settings.session.provider_of(pool.id).offers(pool.machines) if missing else ()
    if offers:  # else the launch says why there are none
        _agree(settings, Quote(offer=offers[0], count=missing, warm=warm, lifetime_s=pool.machines.lifetime_s))


def agree_to_more(settings: Globals, pool: Pool, number: int, wish: Wish = AS_THE_POOL) -> None:
    """Ask whether so many more machines, as `wish` says, are to be started; nothing where nodes are none of a cloud.

    Raises Interrupted if not, UsageError or BackendError for what cannot be had.
    """
    machines = wish.machines or pool.machines
    if machines is None or wish.hosts is not None:
        return
    offers = settings.session.provider_of(pool.id).offers(machines)
    if not offers:
        raise UsageError("no machine fits what the pool asks for", hint="name another type: --machine-type TYPE")
    _agree(settings, Quote(offer=offers[0], count=number, warm=0, lifetime_s=machines.lifetime_s))


def _agree(settings: Globals, quote: Quote) -> None:
    if not agreed(settings.output, quote, yes=settings.yes):
        raise Interrupted("no machine was started, and nothing was changed")


def dollars(amount: float | None) -> str:
    """An amount for a reader."""
    return "an unknown amount" if amount is None else f"${amount:,.2f}"
