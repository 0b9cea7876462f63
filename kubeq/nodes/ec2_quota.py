"""Whether the account's quotas leave room for a machine at all. EC2 counts the processors of all machines of a kind.

What runs already is not counted here: EC2 says no to what is too much. A quota that cannot be read is not judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubeq.core.machines import Offer
from kubeq.errors import BackendError, UsageError
from kubeq.nodes.ec2_calls import Ec2Calls, Said

KINDS: tuple[tuple[str, str, str, str], ...] = (
    ("[acdhimrtz]", "Standard (A, C, D, H, I, M, R, T, Z)", "L-1216C47A", "L-34B43A08"),
    ("g|gr|vt", "G and VT", "L-DB2E81BA", "L-3819A6DF"),
    ("p", "P", "L-417A185B", "L-7212CCBC"),
    ("x", "X", "L-7295265B", "L-E3A00192"),
    ("f", "F", "L-74FC7D96", "L-88CF9481"),
    ("inf", "Inf", "L-1945791B", "L-B5D1601B"),
)
"""The letters of a type's family, what AWS calls the kind, its quotas on demand and for spot (Service Quotas, "Amazon
Elastic Compute Cloud"). Other kinds are not judged."""


def allowed_offers(calls: Ec2Calls, offers: Iterable[Offer]) -> list[Offer]:
    """The offers of which the quotas allow one machine at least. Raises UsageError naming the quota if none is left."""
    limits: dict[str, float | None] = {}
    kept: list[Offer] = []
    lack = ""
    for offer in offers:
        kind = _kind_of(offer)
        if kind is None:
            kept.append(offer)
            continue
        name, code = kind
        if code not in limits:
            limits[code] = _limit(calls, code)
        limit = limits[code]
        if limit is None or limit >= offer.type.resources.cpu:
            kept.append(offer)
        else:
            lack = lack or (
                f"the quota for {'spot' if offer.spot else 'on-demand'} machines of kind {name} in {calls.region} is "
                f"{limit:g} processors ({code}), and {offer.type.name} has {offer.type.resources.cpu:g}"
            )
    if lack and not kept:
        raise UsageError(lack, hint="ask AWS for more in Service Quotas, or name types of another kind with -m")
    return kept


def _kind_of(offer: Offer) -> tuple[str, str] | None:
    """What AWS calls the kind, and the code of its quota."""
    family = re.match(r"([a-z]+)([0-9]*)", offer.type.name)
    if family is None or (offer.spot and family[1] == "p" and int(family[2] or 0) > 4):  # these have one of their own
        return None
    found = next((kind for kind in KINDS if re.fullmatch(kind[0], family[1])), None)
    return found and (found[1], found[3 if offer.spot else 2])


def _limit(calls: Ec2Calls, code: str) -> float | None:
    try:
        answer = calls.ask(
            f"the quotas of EC2 in {calls.region}",
            lambda: calls.quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code),
            expected={"NoSuchResourceException"},
            service="servicequotas",
        )
    except (Said, BackendError):  # who may not read it finds out from the launch
        return None
    value = answer["Quota"].get("Value")
    return None if value is None else float(value)
