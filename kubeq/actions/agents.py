"""What makes any machine a node of a pool by hand: the agent packed and stored, and what to type there.

Starts no agent. An agent on this machine needs this installation only; whichever other machine can see queue and store
gets the archive or the image.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kubeq.actions.agent_store import store_archive
from kubeq.actions.backplane import reach_of
from kubeq.actions.images import release_of_image
from kubeq.actions.launching import number_nodes
from kubeq.actions.machines import machine_request
from kubeq.actions.naming import node_name
from kubeq.actions.node_requests import node_request
from kubeq.actions.relaying import RELAYED_POLL_S, needs_relay, relaying
from kubeq.actions.session import Session
from kubeq.core.machines import Machine
from kubeq.core.model import NodeName, Pool, Reach
from kubeq.errors import Conflict, UsageError
from kubeq.nodes.archive import Archive
from kubeq.nodes.boot import LOG_HERE, TOKEN_FILE, agent_command, agent_environment, python_path
from kubeq.nodes.forms import (
    Boot,
    archive_command,
    boot_from_image,
    boot_from_store,
    boot_here,
    endpoint_variables,
    image_command,
    image_name,
)
from kubeq.nodes.packages import COMPILED, extras_of
from kubeq.relay.admissions import write_private
from kubeq.relay.home import RelayHome
from kubeq.relay_wire import Address
from kubeq.release import this_release

BY_HAND = "manual"
"""The provider of nodes that somebody has made by hand on other machines."""
_OF_THIS_MACHINE = ("KUBEQ_AGENT_STATE", "KUBEQ_AGENT_CACHE", "KUBEQ_AGENT_LOG")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveForm:
    """The archive: where it lies here and in the store, whether it lay there already, and the line that runs a copy."""

    archive: Archive
    url: str
    already: bool
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageForm:
    """The image: its name, whether this machine's engine has it, and the line that runs it."""

    name: str
    here: bool
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayForm:
    """What a node needs that reaches the relay only: the socket where that listens, and the file with its token."""

    socket: Path
    token_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """Ways to make a machine the node of that name; only one of them is to be used.

    `command` is for this machine. The other two are for any that can see queue and store (None: no other machine can,
    or the archive cannot hold what the backplane needs). `boot` is all that a fresh machine runs. `relay`: the command
    is for a node that reaches queue and store through the relay.
    """

    node: NodeName
    command: str
    boot: str
    archive: ArchiveForm | None = None
    image: ImageForm | None = None
    relay: RelayForm | None = None


def agent_by_hand(session: Session, pool: Pool) -> ByHand:
    """What to type for one more node of the pool; its number is taken, and the archive stored where one is needed.

    Raises UsageError, BackendError, and Conflict for an image on this machine that is of another release.
    """
    number = number_nodes(session, pool, 1)[0]
    node, request = node_name(pool.id, number), node_request(session, pool)
    own = agent_environment(request, node, number, pool.provider)
    command = own_command(own)
    if reach_of(session.config) is Reach.HOST:
        return ByHand(node=node, command=command, boot=boot_here(Boot(environment=own), command))
    config = session.config
    extras = extras_of(config.queue_url, config.store_url, config.blobs_url)
    told = agent_environment(request, node, number, BY_HAND) | endpoint_variables(extras, config.place.environ)
    boot = Boot(environment={name: told[name] for name in told if name not in _OF_THIS_MACHINE}, extras=extras)
    image = _image_form(image_name(config.consumer_image), boot)
    machines = _machine_boot(session, pool, node, number)
    if COMPILED.intersection(extras):
        return ByHand(node=node, command=command, boot=machines or boot_from_image(boot, image.name), image=image)
    archive = _archive_form(session, pool, boot)
    text = machines or boot_from_store(boot, archive.archive, archive.url)
    return ByHand(node=node, command=command, boot=text, image=image, archive=archive)


def _machine_boot(session: Session, pool: Pool, node: NodeName, number: int) -> str | None:
    """What a machine of the pool runs at its first boot; None for a pool that has none. Stores the agent."""
    machines = pool.machines
    if machines is None:
        return None
    kind, zone = (*machines.types, "TYPE")[0], (*machines.zones, machines.region)[0]
    machine = Machine(type=kind, zone=zone, spot=machines.spot)  # in place of what is known when one is made
    request = machine_request(session, pool, node_request(session, pool))
    return session.provider_of(pool.id).boot_text(request, node, number, machine)


def relayed_by_hand(session: Session, pool: Pool) -> ByHand:
    """What to type for one more node of the pool that reaches nothing here but the relay, which is started if need be.

    Raises UsageError where nodes reach queue and store by themselves, BackendError.
    """
    if not needs_relay(session):
        raise UsageError(
            f"nodes reach the queue {session.config.queue_url} and its stores by themselves, and need no relay",
            hint="leave --relay out",
        )
    number = session.queue.number_nodes(pool, 1)[0]
    node, relay = node_name(pool.id, number), relaying(session, pool)
    token_file = RelayHome(session.config.state_dir).token_file(node)
    write_private(token_file, f"{relay.admit(node, number, node)}\n".encode())
    url = Address(path=relay.socket).url
    request = replace(node_request(session, pool), queue_url=url, store_url=url, blobs_url=url)
    request = replace(request, poll_s=max(request.poll_s, RELAYED_POLL_S))
    own = agent_environment(request, node, number, pool.provider) | {TOKEN_FILE: str(token_file)}
    command = own_command(own)
    return ByHand(
        node=node,
        command=command,
        boot=boot_here(Boot(environment=own), command),
        relay=RelayForm(socket=relay.socket, token_file=token_file),
    )


def _image_form(name: str, boot: Boot) -> ImageForm:
    found = release_of_image(name)
    if found not in (None, this_release()):
        raise Conflict(
            f"the image {name} on this machine is of kubeq {found}, and this is kubeq {this_release()}",
            hint="build it again (images/consumer/build.py in kubeq's sources), or name another in consumer_image",
        )
    return ImageForm(name=name, here=found is not None, command=image_command(name, boot, "--detach"))


def _archive_form(session: Session, pool: Pool, boot: Boot) -> ArchiveForm:
    archive, already = store_archive(session, pool, boot.extras)
    told = {**boot.environment, "KUBEQ_AGENT_ARCHIVE": str(archive.digest)}
    command = archive_command(f"./{archive.path.name}", told)
    return ArchiveForm(archive=archive, url=session.blobs.url_of(archive.digest), already=already, command=command)


def agent_line(session: Session, pool: Pool) -> str:
    """One shell line that makes the machine it is typed on a node of the pool; its number is taken from the pool."""
    number = number_nodes(session, pool, 1)[0]
    return own_command(
        agent_environment(node_request(session, pool), node_name(pool.id, number), number, pool.provider)
    )


def own_command(own: Mapping[str, str]) -> str:
    """The shell line that runs an agent of this installation, told so."""
    path = python_path("")
    variables = {**({"PYTHONPATH": path} if path else {}), **own, **LOG_HERE}
    words = ["env", *(f"{name}={value}" for name, value in variables.items()), *agent_command()]
    return shlex.join(words)
