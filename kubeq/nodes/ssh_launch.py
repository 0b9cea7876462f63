"""Starting one agent on one host: looking at the host, putting the agent there, letting its pool in, beginning.

Which host gets which node is decided in `ssh`; how each step is done there is in `ssh_host`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

from kubeq.core.model import NodeName, PoolId
from kubeq.errors import KubeqError
from kubeq.nodes import ssh_host
from kubeq.nodes.archive import agent_archive
from kubeq.nodes.base import HostSeen, Launched, NodeRequest, Refused
from kubeq.nodes.boot import PREFIX, TOKEN_FILE, agent_environment, node_directory
from kubeq.nodes.forms import SUPERVISE, Form, Found, choose_form, image_name
from kubeq.nodes.hosts import Host
from kubeq.nodes.images import image_id, saved_image
from kubeq.nodes.packages import extras_of
from kubeq.nodes.ssh_host import Residents, Start, Survey
from kubeq.nodes.ssh_keys import PoolKey, pool_key
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_remote import Remote
from kubeq.nodes.ssh_tunnel import check_port
from kubeq.nodes.ssh_tunnels import Wanted, ensure_tunnels, want_tunnel

log = logging.getLogger(__name__)
PROVIDER = "ssh"
TOKEN = "token"
NO_ENGINE = "Docker, in which the tasks are to run, is not installed there (install it, or submit with --image none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host that is logged in to, and what it knows of the pool."""

    host: Host
    login: Login
    remote: Remote
    residents: Residents


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Starts agents for one request. `state_dir` and `cache_dir` are this machine's."""

    request: NodeRequest
    state_dir: Path
    cache_dir: Path
    agent_image: str

    def start(self, place: Place, found: Survey, name: NodeName, number: int) -> Launched | Refused:
        """An agent of that name and number on the host, or the one sentence that says why there is none."""
        try:
            key = pool_key(self.state_dir, self.request.pool)
            environment = self._environment(place, found, name, number)
            command = self._command(place, found, name, environment)
            secrets = self._admitted(place, name, number)
            pid = ssh_host.start(
                place.remote,
                found,
                Start(
                    name=name,
                    key=key.line(time.time()),
                    mark=key.mark,
                    environment=environment,
                    command=command,
                    secrets=secrets,
                ),
            )
            self._tunnel(place, found, key)
            return Launched(name=name, pid=pid)
        except KubeqError as error:
            return Refused(name=name, reason=sentence(place.host, error))

    def _environment(self, place: Place, found: Survey, name: NodeName, number: int) -> Mapping[str, str]:
        request, state = self.request, Path(found.state)
        limit = place.host.resources or request.limit
        told = replace(request, state_dir=state, cache_dir=Path(found.cache), limit=limit)
        own = {f"{PREFIX}ADDRESS": place.host.name}
        if request.relay is not None:
            url = f"relay://{quote(_endpoint(found, request.pool))}"
            told = replace(told, queue_url=url, store_url=url, blobs_url=url)
            own[TOKEN_FILE] = str(node_directory(state, name) / TOKEN)
        return {**agent_environment(told, name, number, PROVIDER), **request.environ, **own}

    def _command(self, place: Place, found: Survey, name: NodeName, environment: Mapping[str, str]) -> list[str]:
        """What runs the agent there, put there before if need be. Raises UsageError if nothing does."""
        request = self.request
        urls = () if request.relay else (request.queue_url, request.store_url, request.blobs_url)
        extras = extras_of(*urls)
        archive = agent_archive(extras, self.cache_dir)
        form = choose_form(extras, Found(python=found.python, docker=found.docker is not None), archive.python)
        if form is Form.IMAGE:
            image = image_name(self.agent_image)
            sent = ssh_host.install_image(place.remote, image, image_id(image), partial(saved_image, image))
            log.info("%s: the agent's image %s", place.host.name, "was sent" if sent else "is there already")
            return ssh_host.image_words(found, image, name, environment)
        path, sent = ssh_host.install(place.remote, found, archive.path, archive.digest)
        log.info("%s: the agent %s", place.host.name, "was sent" if sent else "is there already")
        return ["sh", path, SUPERVISE]

    def _admitted(self, place: Place, name: NodeName, number: int) -> Mapping[str, str]:
        """The token for the relay, if the node needs one; it is certain that the host lets the node come through."""
        if self.request.relay is None:
            return {}
        check_port(place.remote)
        return {TOKEN: self.request.relay.admit(name, number, place.host.name)}

    def _tunnel(self, place: Place, found: Survey, key: PoolKey) -> None:
        """Have the tunnel kept through which the node reaches the relay; it logs in with the pool's key first."""
        request = self.request
        if request.relay is None:
            return
        login = with_key(place.login, key.path)
        socket, path = request.relay.socket, _endpoint(found, request.pool)
        want_tunnel(self.state_dir, place.host.name, Wanted(pool=request.pool, login=login, socket=socket, path=path))
        ensure_tunnels(self.state_dir)


def look(place: Place, *, containers: bool = False) -> Survey | str:
    """What a host has, or the sentence that says why it cannot be used, or not for `containers`."""
    try:
        found = ssh_host.survey(place.remote)
    except KubeqError as error:
        return sentence(place.host, error)
    wrong = [*found.wrong, *([NO_ENGINE] if containers and found.no_engine else [])]
    return f"{place.host.name}: {'; '.join(wrong)}" if wrong else found


def seen(place: Place) -> HostSeen:
    """The host as it is now, for whoever only wants to know."""
    found, plain = look(place), unseen(place.host)
    if isinstance(found, str):
        return replace(plain, problem=found)
    facts = replace(plain, machine=found.machine, docker=found.docker, cpus=found.cpus, free=found.free)
    try:
        choose_form((), Found(python=found.python, docker=found.docker is not None))
    except KubeqError as error:
        return replace(facts, problem=sentence(place.host, error))
    return facts if found.python is None else replace(facts, python=f"3.{found.python}")


def unseen(host: Host, problem: str | None = None) -> HostSeen:
    """The host as it is written."""
    return HostSeen(name=host.name, address=str(host), labels=host.labels, problem=problem)


def with_key(login: Login, key: Path) -> Login:
    """The login that tries the pool's own key first, if there is one."""
    return replace(login, keys=(key, *login.keys)) if key.is_file() and key not in login.keys else login


def sentence(host: Host, error: KubeqError) -> str:
    """One line about a host: the error, and what to do about it."""
    named = error.message if host.name in error.message else f"{host.name}: {error.message}"
    return f"{named} ({error.hint})" if error.hint else named


def _endpoint(found: Survey, pool: PoolId) -> str:
    """The file on the host that says through which of its ports the pool's relay is reached."""
    return f"{found.state}/pools/{pool}/relay"
