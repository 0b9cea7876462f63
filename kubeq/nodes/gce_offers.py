"""What Google has of what a pool asks for: where, as which machine type, from what it boots. Nothing is launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from kubeq.core.machines import Machines, Offer, offers_in_order
from kubeq.core.table_rules import listing
from kubeq.errors import AccessDenied, UsageError
from kubeq.nodes.gce_api import Compute, last, together
from kubeq.nodes.gce_catalogue import project_of, region_names, region_of
from kubeq.nodes.gce_checks import (
    Boot,
    check_account,
    check_network,
    check_permissions,
    check_words,
    find_image,
)
from kubeq.nodes.gce_client import compute
from kubeq.nodes.gce_quota import Quotas
from kubeq.nodes.gce_types import price_of, types_of_zones
from kubeq.nodes.prices import Price

MOST_OFFERS = 24
"""So many are tried at most: capacity that is short for these is hardly there for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The offers in the order in which they are tried, and from what each architecture boots."""

    offers: Sequence[Offer]
    boots: dict[str, Boot]


def plan(asked: Compute, machines: Machines, price: Price) -> Plan:
    """What would be tried. Raises UsageError or BackendError for whatever Google does not have or allow."""
    check_words(machines)
    project = project_of(asked)
    if project is None:
        raise UsageError(f"there is no project {asked.project!r} in Google Cloud", hint="gcloud projects list")
    region = region_of(asked, machines.region)
    if region is None:
        known = listing(region_names(asked))
        raise UsageError(f"Google has no region {machines.region!r}", hint=f"the regions are: {known}")
    zones = _zones(machines, region)
    checks = [partial(check, asked, machines) for check in (check_permissions, check_network)]
    together([*checks, partial(check_account, asked, machines, project.default_service_account)])
    kinds = types_of_zones(asked, machines, zones)
    offers = [
        Offer(type=kind, zone=zone, spot=machines.spot, price=price_of(kind, machines.region, machines.spot, price))
        for zone in zones
        for kind in kinds[zone]
    ]
    tried = _within(Quotas(project, region), offers, machines)
    architectures = {offer.type.architecture for offer in tried}
    return Plan(offers=tried, boots={name: find_image(asked, machines, name) for name in sorted(architectures)})


def _zones(machines: Machines, region: compute.Region) -> list[str]:
    there = sorted(map(last, region.zones))
    unknown = [zone for zone in machines.zones if zone not in there]
    if unknown:
        raise UsageError(
            f"the region {region.name} has no zone {unknown[0]!r}", hint=f"its zones are: {listing(there)}"
        )
    return list(machines.zones) or there


def _within(quotas: Quotas, offers: Sequence[Offer], machines: Machines) -> list[Offer]:
    """Those that the quotas leave room for, as they are to be tried. Raises AccessDenied if that is none."""
    lacks: dict[str, str | None] = {}
    for offer in offers:
        if offer.type.name not in lacks:
            lacks[offer.type.name] = quotas.lack(offer.type, offer.spot)
    allowed = [offer for offer in offers if lacks[offer.type.name] is None]
    if not allowed:
        first = offers_in_order(offers, machines.types)[0]
        raise AccessDenied(
            f"no machine can be made: {lacks[first.type.name]}",
            hint="end what else runs there, or ask for more at https://console.cloud.google.com/iam-admin/quotas",
        )
    return offers_in_order(allowed, machines.types)[:MOST_OFFERS]
