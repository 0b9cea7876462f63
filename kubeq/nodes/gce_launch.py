"""Making the instances of one launch: each name where there is room for it, and never twice.

A request that Google takes may still fail for want of machines, some seconds later. So each is looked at until that is
known, and if there is no room, the next offer is tried.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from kubeq.core.machines import Machine, Offer
from kubeq.core.model import NodeName
from kubeq.errors import BackendError
from kubeq.extras import extra
from kubeq.nodes.base import Launched, Refused
from kubeq.nodes.gce_api import together
from kubeq.nodes.gce_description import Description
from kubeq.nodes.gce_instances import (
    STANDING,
    Refusal,
    allow,
    insert_instance,
    list_instances,
    read_instance,
    read_operation,
)
from kubeq.nodes.gce_names import LIVE, NODE, instance_name, node_of, of_pool, request_id
from kubeq.nodes.gce_offers import Plan
from kubeq.nodes.gce_seen import machine_of
from kubeq.nodes.prices import Price

with extra("gcp"):
    from google.cloud import compute_v1 as compute

log = logging.getLogger(__name__)
LEARN_S = 30.0
"""How long an instance that comes is looked at. Want of capacity shows within seconds; one that takes longer comes."""
LOOK_S = 1.0
_NO_ROOM = ("ZONE_RESOURCE_POOL_EXHAUSTED", "QUOTA_EXCEEDED", "STOCKOUT", "RESOURCE_POOL_EXHAUSTED")
"""How the codes of those refusals begin that another offer may not meet:
https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation (May 2026)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """One launch. `full` are the offers of which there was no more, known to all names."""

    description: Description
    plan: Plan
    price: Price
    full: dict[Offer, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def launch(self, names: Mapping[NodeName, int]) -> dict[NodeName, Launched | Refused]:
        """An answer for each name. One that has a live instance already, wherever, is not made again."""
        asked, pool = self.description.asked, self.description.request.pool
        standing = {
            node_of(one.name): Launched(name=node_of(one.name), machine=machine_of(one, self.price))
            for one in list_instances(asked, of_pool(pool))
            if one.status in LIVE
        }
        if self.description.machines.ports:
            allow(asked, self.description.rule())
        missing = [name for name in names if name not in standing]
        made = together([partial(self._start, name, names[name]) for name in missing])
        return {name: standing[name] for name in names if name in standing} | {one.name: one for one in made}

    def _start(self, name: NodeName, number: int) -> Launched | Refused:
        """Try one offer after the other."""
        reason = "there was no room for it anywhere"
        for offer in self.plan.offers:
            if offer in self.full:
                reason = self.full[offer]
                continue
            try:
                answer = self._try(name, number, offer)
            except BackendError as error:
                return Refused(name=name, reason=error.message)
            if isinstance(answer, Machine):
                return Launched(name=name, machine=answer)
            told = f"{answer.message.rstrip('.')} ({answer.code})" if answer.code else answer.message
            reason = f"{offer.type.name} in {offer.zone}: {told}"
            if not answer.code.startswith(_NO_ROOM):
                break
            log.info("no %s", reason)
            with self.lock:
                self.full.setdefault(offer, reason)
        return Refused(name=name, reason=reason)

    def _try(self, name: NodeName, number: int, offer: Offer) -> Machine | Refusal:
        asked = self.description.asked
        instance = self.description.instance(name, number, offer)
        answer = insert_instance(asked, offer.zone, instance, request_id(name, offer))
        if answer == STANDING:
            return self._standing(name, offer)
        if isinstance(answer, Refusal):
            return answer
        refusal = self._learn(offer.zone, answer)
        if refusal is not None:
            return refusal
        return Machine(
            id=str(answer.target_id), type=offer.type.name, zone=offer.zone, spot=offer.spot, price=offer.price
        )

    def _standing(self, name: NodeName, offer: Offer) -> Machine | Refusal:
        """The instance that has the name already: ours, which somebody made at the same time, or not."""
        found = read_instance(self.description.asked, offer.zone, instance_name(name))
        if found is None or found.labels.get(NODE) != name or found.status not in LIVE:
            return Refusal("", f"the name {instance_name(name)} is taken in {offer.zone}")
        return machine_of(found, self.price)

    def _learn(self, zone: str, operation: compute.Operation) -> Refusal | None:
        """Why the instance does not come; None when it is there, or comes as far as one can see."""
        patience = self.description.asked.patience
        until = patience.now() + LEARN_S
        current: compute.Operation | None = operation
        while current is not None and current.status != compute.Operation.Status.DONE and patience.now() < until:
            patience.sleep(LOOK_S)
            current = read_operation(self.description.asked, zone, operation.name)
        errors = [] if current is None else current.error.errors
        return Refusal(errors[0].code, errors[0].message) if errors else None
