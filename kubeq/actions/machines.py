"""What the machines of a pool are to be, as the configuration has it, and what they are given when they are made.

Which provider makes them, and out of what, is the provider's affair; when they are made is decided in `launching`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from kubeq.actions.agent_store import store_agent
from kubeq.actions.session import Session
from kubeq.core.machines import Machines, Offer
from kubeq.core.model import Pool
from kubeq.core.resources import Resources
from kubeq.core.wire import encode_machines
from kubeq.errors import BackendError, UsageError
from kubeq.extras import extra
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.forms import endpoint_variables

CLUSTER = "cluster"
"""The label that holds `cluster_name`."""
_NOT_IN_LABELS = re.compile(r"[^a-z0-9_-]")


def machines_of(session: Session) -> Machines | None:
    """What a submission of this configuration asks of machines; None where its provider makes none.

    Raises UsageError if nobody has said where they are to be. Makes no request.
    """
    config = session.config
    if not session.provider.capabilities.costs_money:
        return None
    if session.region is None:
        raise UsageError(
            f"no region is set, and machines of the provider {config.provider} are made in one",
            hint="write region = REGION into the configuration, or -o region=REGION",
        )
    labels = [tuple(label.split("=", 1)) for label in config.machine_labels]
    cluster = [] if config.cluster_name is None else [(CLUSTER, label_text(config.cluster_name))]
    return Machines(
        region=session.region,
        zones=config.zones,
        types=config.machine_type,
        need=replace(config.task_resources, gpus=0),  # which are asked for by their kind too
        gpus=config.task_resources.gpus,
        gpu=config.gpu_type if config.task_resources.gpus else None,
        spot=config.spot,
        spot_budget=config.spot_budget if config.spot else 0,
        image=config.machine_image,
        disk=config.boot_disk,
        disk_kind=config.boot_disk_type,
        volumes=config.volumes,
        network=config.machine_network,
        subnets=config.subnets,
        tags=config.network_tags,
        ports=config.open_port,
        private=config.gce_private and config.provider == "gce",
        identity=config.node_identity,
        labels=tuple(sorted((name, value) for name, value in (*labels, *cluster))),
        lifetime_s=config.lifetime_s,
    )


def identity_of(session: Session, machines: Machines | None) -> tuple[str, ...]:
    """What of the machines makes the pool: all but what a task needs where a single type is named."""
    if machines is None:
        return ()
    told = replace(machines, need=Resources()) if len(machines.types) == 1 else machines
    return json.dumps(encode_machines(told), sort_keys=True), session.config.project or ""


def machine_request(session: Session, pool: Pool, request: NodeRequest) -> NodeRequest:
    """The request with all that a machine needs which a cloud makes; as it is for other nodes. Stores the agent."""
    if pool.machines is None:
        return request
    agent = store_agent(session, pool)
    return replace(
        request,
        machines=pool.machines,
        agent=agent,
        environ=endpoint_variables(agent.extras, session.config.place.environ),
        key=_key_of(session, pool),
        owner=owner_of(session),
    )


def offer_text(offer: Offer) -> str:
    """A machine that could be had, in a line."""
    price = "at an unknown price" if offer.price is None else f"${offer.price:.4g} an hour"
    return f"{offer.type.name}{' (spot)' if offer.spot else ''} in {offer.zone}, {price}"


def owner_of(session: Session) -> str:
    """Whose machines are that this user has made, as a cloud's labels can hold it."""
    return label_text(session.user)


def label_text(text: str) -> str:
    """The text as a cloud's labels can hold it."""
    return _NOT_IN_LABELS.sub("-", text.lower())[:63]


def _key_of(session: Session, pool: Pool) -> str | None:
    """The public key of the pool; None where what makes keys is not installed: then nobody logs in either."""
    try:
        with extra("ssh"):
            from kubeq.nodes.ssh_keys import pool_key

            return pool_key(session.config.state_dir, pool.id).public
    except BackendError:
        return None
