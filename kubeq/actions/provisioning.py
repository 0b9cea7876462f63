"""`setup`: what the stores and the queue of a configuration need in a cloud, made where it does not stand yet.

What that is and how it is made, each backend's own provisioner knows. Everything may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from kubeq.actions.backplane import check_names
from kubeq.config import Config, with_flags
from kubeq.core.provisioning import Permission, Piece, Provisioner
from kubeq.core.requests import Requests
from kubeq.metering import added
from kubeq.nodes import open as nodes
from kubeq.queue import open as queues
from kubeq.store import open as stores

CLOUD_OF: Mapping[str, str] = {"ec2": "aws", "gce": "gcp"}
"""In whose policy language a provider's permissions are."""


class State(StrEnum):
    """What became of a piece. `missing` is what a dry run leaves."""

    STANDS = "stands"
    CREATED = "created"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """One thing that has to exist, for which URL, and what became of it."""

    piece: Piece
    url: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the nodes may do in one cloud, each permission once."""

    cloud: str
    permissions: tuple[Permission, ...]


Policy = Callable[[Grant], Mapping[str, Any]]
"""What writes a grant in its cloud's words."""
Provisioners = Mapping[str, Provisioner | None]
"""What makes each URL's place; None where nothing has to be made."""


def provisioners_of(config: Config) -> Provisioners:
    """Those of the stores and of the queue, by URL and in the order to use them; makes no request.

    Raises UsageError for what cannot be called so.
    """
    check_names(config)
    region, project = config.region, config.project
    found = {url: stores.open_provisioner(url, region, project) for url in (config.store_url, config.blobs_url)}
    return found | {config.queue_url: queues.open_provisioner(config.queue_url, region)}


def naming_identity(config: Config) -> Config:
    """The configuration that says as whom machines act, where nothing does and the cloud has nobody of its own."""
    usual = nodes.USUAL_IDENTITIES.get(config.provider)
    return config if usual is None or config.node_identity else with_flags(config, {"node_identity": usual})


def with_identity(provisioners: Provisioners, config: Config, policy: Policy) -> Provisioners:
    """The same, and last what makes as whom machines act; they may do what the others say, and no more."""
    cloud = CLOUD_OF.get(config.provider)
    grant = next((each for each in node_grants(provisioners) if each.cloud == cloud), None)
    if grant is None:
        return provisioners
    identity = nodes.open_identity(config.provider, config.node_identity, config.region, policy(grant))
    return provisioners if identity is None else {**provisioners, f"{config.provider}:{config.node_identity}": identity}


def node_policies(provisioners: Provisioners, config: Config, policy: Policy) -> Mapping[str, Mapping[str, Any]]:
    """What the identity of a node needs, by cloud: for queue and store, and what its machine needs for itself."""
    own = tuple(nodes.own_permissions(config.provider, config.project))
    cloud = CLOUD_OF.get(config.provider)
    return {
        grant.cloud: policy(replace(grant, permissions=grant.permissions + own) if grant.cloud == cloud else grant)
        for grant in node_grants(provisioners)
    }


def launch_grant(config: Config) -> Grant | None:
    """What whoever starts machines has to be allowed; None where none are made. Makes no request."""
    permissions = tuple(nodes.launch_permissions(config.provider, config.region, config.project, config.node_identity))
    return Grant(cloud=CLOUD_OF[config.provider], permissions=permissions) if permissions else None


def asked_of(provisioners: Provisioners, config: Config) -> Requests:
    """How many requests they have made so far."""
    counts = {url: each.requests for url, each in provisioners.items() if each is not None}
    queue = counts.pop(config.queue_url, {})
    return Requests(queue=queue, store=added(*counts.values()))


def set_up(provisioners: Provisioners, *, dry_run: bool) -> Iterator[Provision]:
    """Every piece in turn, made unless it stands or this is a dry run. Raises BackendError for what cannot be made."""
    told: set[tuple[str, str]] = set()
    for url, provisioner in provisioners.items():
        if provisioner is None:
            continue
        for piece in provisioner.survey():  # after what the one before has made: two stores may share a bucket
            state = State.STANDS if piece.stands else State.MISSING
            if state is State.MISSING and not dry_run:
                provisioner.create(piece)
                state = State.CREATED
            if state is State.CREATED or (piece.kind, piece.name) not in told:
                yield Provision(piece=piece, url=url, state=state)
            told.add((piece.kind, piece.name))


def node_grants(provisioners: Provisioners) -> Sequence[Grant]:
    """The least that the identity of a node needs, by cloud; makes no request."""
    found: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for provisioner in filter(None, provisioners.values()):
        actions = found.setdefault(provisioner.cloud, {})
        for permission in provisioner.node_permissions():
            resources = actions.setdefault(permission.actions, [])
            resources += [resource for resource in permission.resources if resource not in resources]
    return [
        Grant(
            cloud=cloud,
            permissions=tuple(
                Permission(actions=actions, resources=tuple(resources)) for actions, resources in by_actions.items()
            ),
        )
        for cloud, by_actions in found.items()
    ]
