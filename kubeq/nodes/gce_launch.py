"""Making the instances of one launch: each name where there is room for it, and never twice.

A request that Google takes may still fail for want of machines, some seconds later. So each is looked at until that is
known, and if there is no room, the next offer is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from kubeq.core.machines import Machine, Offer
from kubeq.core.model import NodeName
from kubeq.errors import BackendError
from kubeq.nodes.base import Launched, Refused
from kubeq.nodes.gce_api import together
from kubeq.nodes.gce_client import compute
from kubeq.nodes.gce_description import OS_LOGIN, Description, with_os_login
from kubeq.nodes.gce_instances import (
    STANDING,
    WANTS_OS_LOGIN,
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

log = logging.getLogger(__name__)
LEARN_S = 30.0
"""How long an instance that comes is looked at. Want of capacity shows within seconds; one that takes longer comes."""
LOOK_S = 1.0
_DONE = compute.Operation.Status.DONE
_NO_ROOM = ("ZONE_RESOURCE_POOL_EXHAUSTED", "QUOTA_EXCEEDED", "STOCKOUT", "RESOURCE_POOL_EXHAUSTED")
"""How the codes of those refusals begin that another offer may not meet:
https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation (May 2026)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """One launch. `note` is told of each name that is being made, and in which zone."""

    description: Description
    plan: Plan
    price: Price
    note: Callable[[NodeName, str], None]

    def launch(self, names: Mapping[NodeName, int]) -> dict[NodeName, Launched | Refused]:
        """An answer for each name. One that has a live instance already, wherever, is not made again.

        All names that have no machine yet try an offer side by side; where the one before had no room for any of them,
        one goes ahead.
        """
        answers = self._standing(names)
        left = {name: number for name, number in names.items() if name not in answers}
        if left and self.description.machines.ports:
            allow(self.description.asked, self.description.rule())
        reasons: dict[NodeName, str] = {}
        alone = False
        for offer in self.plan.offers:
            first = dict(list(left.items())[:1]) if alone else left
            tried = self._try(offer, first) if first else {}
            if alone and any(isinstance(one, Launched) for one in tried.values()):
                tried |= self._try(offer, {name: left[name] for name in left if name not in first})
            answers |= {name: one for name, one in tried.items() if not isinstance(one, str)}
            reasons |= {name: one for name, one in tried.items() if isinstance(one, str)}
            alone = not any(isinstance(one, Launched) for one in tried.values())
            left = {name: number for name, number in left.items() if name not in answers}
        any_reason = next(iter(reasons.values()), "there was no room for it anywhere")
        return answers | {name: Refused(name=name, reason=reasons.get(name, any_reason)) for name in left}

    def _standing(self, names: Mapping[NodeName, int]) -> dict[NodeName, Launched | Refused]:
        """Those that live already."""
        found = list_instances(self.description.asked, of_pool(self.description.request.pool))
        live = {node_of(one.name): machine_of(one, self.price) for one in found if one.status in LIVE}
        return {name: Launched(name=name, machine=live[name]) for name in names if name in live}

    def _try(self, offer: Offer, names: Mapping[NodeName, int]) -> dict[NodeName, Launched | Refused | str]:
        """What became of each name with that offer; a sentence where another offer may have room."""
        calls = [partial(self._insert, offer, name, number) for name, number in names.items()]
        asked = dict(zip(names, together(calls), strict=True))
        coming = {name: one for name, one in asked.items() if isinstance(one, compute.Operation)}
        refused = self._learn(offer.zone, coming)
        return {name: self._told(name, offer, refused.get(name, one)) for name, one in asked.items()}

    def _insert(self, offer: Offer, name: NodeName, number: int) -> Machine | Refusal | compute.Operation | Refused:
        asked = self.description.asked
        try:
            instance = self.description.instance(name, number, offer)
            answer = insert_instance(asked, offer.zone, instance, request_id(name, offer))
            if answer == WANTS_OS_LOGIN:  # then it works all the same, and nobody gets in with the pool's key
                id = request_id(name, offer, OS_LOGIN)
                answer = insert_instance(asked, offer.zone, with_os_login(instance), id)
            if isinstance(answer, compute.Operation):
                self.note(name, offer.zone)
            return self._taken(name, offer) if answer == STANDING else answer
        except BackendError as error:
            return Refused(name=name, reason=error.message)

    def _taken(self, name: NodeName, offer: Offer) -> Machine | Refusal:
        """The instance that has the name already: ours, which somebody made at the same time, or not."""
        found = read_instance(self.description.asked, offer.zone, instance_name(name))
        if found is None or found.labels.get(NODE) != name or found.status not in LIVE:
            return Refusal("", f"the name {instance_name(name)} is taken in {offer.zone}")
        return machine_of(found, self.price)

    def _learn(self, zone: str, coming: Mapping[NodeName, compute.Operation]) -> dict[NodeName, Refusal]:
        """Why instances do not come; of the others each is there, or comes as far as one can see."""
        patience = self.description.asked.patience
        until = patience.now() + LEARN_S
        waited = {name: one for name, one in coming.items() if one.status != _DONE}
        known = {name: one for name, one in coming.items() if name not in waited}
        while waited and patience.now() < until:
            patience.sleep(LOOK_S)
            calls = [partial(self._read, zone, one) for one in waited.values()]
            read = {name: found for name, found in zip(waited, together(calls), strict=True) if found is not None}
            known |= {name: found for name, found in read.items() if found.status == _DONE}
            waited = {name: found for name, found in read.items() if name not in known}
        first = {name: one.error.errors[0] for name, one in known.items() if one.error.errors}
        return {name: Refusal(why.code, why.message) for name, why in first.items()}

    def _read(self, zone: str, operation: compute.Operation) -> compute.Operation | None:
        """How far it is, as far as that can be learnt: a machine that was asked for is never given up for an error."""
        try:
            return read_operation(self.description.asked, zone, operation.name)
        except BackendError as error:
            log.warning("%s", error.message)
            return operation

    def _told(
        self, name: NodeName, offer: Offer, answer: Machine | Refusal | compute.Operation | Refused
    ) -> Launched | Refused | str:
        if isinstance(answer, Refused):
            return answer
        if isinstance(answer, Refusal):
            why = f"{answer.message.rstrip('.')} ({answer.code})" if answer.code else answer.message
            reason = f"{offer.type.name} in {offer.zone}: {why}"
            return reason if answer.code.startswith(_NO_ROOM) else Refused(name=name, reason=reason)
        if isinstance(answer, compute.Operation):
            id = str(answer.target_id)
            answer = Machine(id=id, type=offer.type.name, zone=offer.zone, spot=offer.spot, price=offer.price)
        return Launched(name=name, machine=answer)
