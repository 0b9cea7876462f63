"""Nodes on the user's own hosts, reached by SSH: one agent a host and pool. Nothing is installed there beforehand.

What is done on a host is in `ssh_host`, how one logs in in `ssh_login` and `ssh_remote`. An agent is started detached:
the connection is only its way in, and a connection that breaks ends nothing. Which host a node of the pool lives on is
asked of the hosts each time.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import quote

from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.errors import KubeqError, NotFound
from kubeq.nodes import ssh_host
from kubeq.nodes.archive import agent_archive
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeRequest, Observation, Refused
from kubeq.nodes.boot import PREFIX, agent_environment
from kubeq.nodes.forms import SUPERVISE, Form, Found, choose_form, image_name
from kubeq.nodes.hosts import Host
from kubeq.nodes.images import image_id, saved_image
from kubeq.nodes.packages import extras_of
from kubeq.nodes.ssh_host import Start, Survey
from kubeq.nodes.ssh_keys import PoolKey, pool_key
from kubeq.nodes.ssh_login import Login, SshSettings, resolve_login
from kubeq.nodes.ssh_remote import Remote, connect
from kubeq.nodes.ssh_tunnels import Wanted, ensure_tunnels, want_tunnel

log = logging.getLogger(__name__)
MOST_AT_ONCE = 100
"""Hosts that are connected side by side; each has a thread that mostly waits."""
TOKEN = "token"
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host that is logged in to, and the pool's nodes that it knows."""

    host: Host
    remote: Remote
    nodes: Mapping[NodeName, Observation]

    @property
    def is_taken(self) -> bool:
        """Whether an agent of the pool lives there."""
        return any(seen.alive for seen in self.nodes.values())


class SshProvider:
    """A NodeProvider over a list of hosts. Connections are made for a call and ended with it."""

    name: ClassVar[str] = "ssh"
    capabilities: NodeCapabilities = NodeCapabilities(reach=Reach.NETWORK, costs_money=False, relays=True)

    def __init__(
        self, hosts: Sequence[Host], settings: SshSettings, state_dir: Path, cache_dir: Path, agent_image: str
    ) -> None:
        self._hosts = hosts
        self._settings = settings
        self._state_dir = state_dir
        self._cache_dir = cache_dir
        self._agent_image = agent_image

    def largest(self) -> Resources | None:
        """Not known before the hosts were looked at."""
        return None

    def usual(self, tasks: int) -> int:
        """An agent on every host, but no more of them than there are tasks."""
        return max(1, min(len(self._hosts), tasks))

    def launch(self, request: NodeRequest, names: Mapping[NodeName, int]) -> Mapping[NodeName, Launched | Refused]:
        """See NodeProvider. Each name goes to a host without an agent of the pool, in the order of the list.

        A host that cannot be used is refused in a sentence that names it, and the others go on.
        """
        key = pool_key(self._state_dir, request.pool)
        with self._places(request.pool) as (places, problems):
            standing = {name: seen for place in places for name, seen in place.nodes.items() if seen.alive}
            answers: dict[NodeName, Launched | Refused] = {
                name: Launched(name=name, pid=standing[name].pid) for name in names if name in standing
            }
            free = [place for place in places if not place.is_taken]
            surveys = self._each(free, _survey)
            good = [(place, found) for place, found in zip(free, surveys, strict=True) if isinstance(found, Survey)]
            problems += [found for found in surveys if isinstance(found, str)]
            chosen = list(zip([name for name in names if name not in answers], good, strict=False))
            calls = [partial(self._start, *where, request, name, names[name], key) for name, where in chosen]
            answers |= {answer.name: answer for answer in self._each(calls, lambda call: call())}
        left = [name for name in names if name not in answers]
        reasons = [*problems, *[f"each of the {len(self._hosts)} hosts has an agent of this pool"] * len(left)]
        answers |= {name: Refused(name=name, reason=reason) for name, reason in zip(left, reasons, strict=False)}
        return answers

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        """See NodeProvider. What is on hosts that do not answer is left out: nothing is known of it."""
        with self._places(pool) as (places, problems):
            for problem in problems:
                log.info("not seen: %s", problem)
            return {
                name: replace(seen, address=str(place.host)) for place in places for name, seen in place.nodes.items()
            }

    def terminate(self, names: Sequence[NodeName]) -> None:
        """See NodeProvider. SIGTERM to what keeps the agent, which hands it on."""
        for pool, named in _by_pool(names).items():
            with self._places(pool) as (places, _):
                self._each(places, lambda place, named=named: ssh_host.stop(place.remote, named))  # type: ignore[misc]

    def command(self, node: Node, words: Sequence[str], *, terminal: bool) -> list[str]:
        """See NodeProvider. OpenSSH's own client, which reads ~/.ssh/config by itself; the pool's key is offered."""
        host = next((host for host in self._hosts if host.name == node.address), None)
        if host is None:
            raise NotFound(
                f"no host of the pool is called {node.address or node.host!r}", hint="kubeq nodes lists them"
            )
        settings, key = self._settings, self._state_dir / "pools" / node.pool / "key"
        login = self.login_of(host, node.pool)
        keys = [path for path in (key, host.key or settings.identity) if path is not None and path.is_file()]
        options = [
            f"StrictHostKeyChecking={'accept-new' if login.accept_new else 'yes'}",
            *([f"UserKnownHostsFile={settings.known_hosts}"] if settings.known_hosts else []),
            *([] if terminal else ["BatchMode=yes"]),
        ]
        return [
            *("ssh", "-t" if terminal else "-T", "-l", login.user),
            *(("-p", str(host.port)) if host.port else ()),
            *(word for path in keys for word in ("-i", str(path))),
            *(word for option in options for word in ("-o", option)),
            *("--", host.address, *([shlex.join(["/bin/sh", "-c", shlex.join(words)])] if words else [])),
        ]

    def forget(self, pool: PoolId | None, older_s: float) -> None:
        """See NodeProvider. With None nothing: hosts are not asked only to tidy up."""
        if pool is None:
            return
        mark = pool_key(self._state_dir, pool).mark
        with self._places(pool) as (places, _):
            for place in places:
                ssh_host.forget(place.remote, list(place.nodes))
                if not place.is_taken:
                    ssh_host.deauthorise(place.remote, mark)

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        """See NodeProvider. All are looked at side by side."""
        return self._each(self._hosts, lambda host: self._seen(host, pool))

    def login_of(self, host: Host, pool: PoolId) -> Login:
        """How the pool logs in to the host: with its own key, then with the user's."""
        login = resolve_login(host, self._settings)
        key = self._state_dir / "pools" / pool / "key"
        return replace(login, keys=(key, *login.keys), keys_only=login.keys_only) if key.is_file() else login

    @contextmanager
    def _places(self, pool: PoolId) -> Iterator[tuple[list[Place], list[str]]]:
        """The hosts that answer, and why the others do not. The connections end with the block."""
        looked = self._each(self._hosts, lambda host: self._place(host, pool))
        places = [place for place in looked if isinstance(place, Place)]
        try:
            yield places, [problem for problem in looked if isinstance(problem, str)]
        finally:
            for place in places:
                place.remote.close()

    def _place(self, host: Host, pool: PoolId) -> Place | str:
        try:
            remote = connect(self.login_of(host, pool))
        except KubeqError as error:
            return _sentence(host, error)
        try:
            return Place(host=host, remote=remote, nodes=ssh_host.nodes_of(remote, pool))
        except KubeqError as error:
            remote.close()
            return _sentence(host, error)

    def _seen(self, host: Host, pool: PoolId) -> HostSeen:
        place = self._place(host, pool)
        plain = HostSeen(name=host.name, address=str(host), labels=host.labels)
        if isinstance(place, str):
            return replace(plain, problem=place)
        with place.remote:
            found = _survey(place)
        if isinstance(found, str):
            return replace(plain, problem=found)
        seen = replace(plain, machine=found.machine, docker=found.docker, cpus=found.cpus, free=found.free)
        try:
            choose_form((), Found(python=found.python, docker=found.docker is not None))
        except KubeqError as error:
            return replace(seen, problem=_sentence(host, error))
        return seen if found.python is None else replace(seen, python=f"3.{found.python}")

    def _start(
        self, place: Place, found: Survey, request: NodeRequest, name: NodeName, number: int, key: PoolKey
    ) -> Launched | Refused:
        try:
            environment = self._environment(place, found, request, name, number)
            command = self._command(place, found, request, name, environment)
            ssh_host.authorise(place.remote, key.line(time.time()), key.mark)
            secrets = self._admitted(place, found, request, name, number)
            return Launched(
                name=name,
                pid=ssh_host.start(
                    place.remote,
                    found,
                    Start(
                        name=name,
                        pool=request.pool,
                        environment=environment,
                        command=command,
                        secrets=secrets,
                    ),
                    key.mark,
                ),
            )
        except KubeqError as error:
            return Refused(name=name, reason=_sentence(place.host, error))

    def _admitted(
        self, place: Place, found: Survey, request: NodeRequest, name: NodeName, number: int
    ) -> Mapping[str, str]:
        """What the node needs for the relay, if it needs one: its token, and a tunnel that is kept."""
        if request.relay is None:
            return {}
        token = request.relay.admit(name, number, place.host.name)
        login = self.login_of(place.host, request.pool)
        tunnel = Wanted(login=login, socket=request.relay.socket, path=_endpoint(found, request.pool))
        want_tunnel(self._state_dir, request.pool, place.host.name, tunnel)
        ensure_tunnels(self._state_dir)
        return {TOKEN: token}

    def _command(
        self, place: Place, found: Survey, request: NodeRequest, name: NodeName, environment: Mapping[str, str]
    ) -> list[str]:
        """What runs the agent there, put there before if need be. Raises UsageError if nothing does."""
        urls = () if request.relay else (request.queue_url, request.store_url, request.blobs_url)
        extras = extras_of(*urls)
        archive = agent_archive(extras, self._cache_dir)
        form = choose_form(extras, Found(python=found.python, docker=found.docker is not None), archive.python)
        if form is Form.IMAGE:
            image = image_name(self._agent_image)
            sent = ssh_host.install_image(place.remote, image, image_id(image), partial(saved_image, image))
            log.info("%s: the agent's image %s", place.host.name, "was sent" if sent else "is there already")
            return ssh_host.image_words(found, image, name, environment)
        path, sent = ssh_host.install(place.remote, found, archive.path, archive.digest)
        log.info("%s: the agent %s", place.host.name, "was sent" if sent else "is there already")
        return ["sh", path, SUPERVISE]

    def _environment(
        self, place: Place, found: Survey, request: NodeRequest, name: NodeName, number: int
    ) -> Mapping[str, str]:
        limit = place.host.resources or request.limit
        told = replace(request, state_dir=Path(found.state), cache_dir=Path(found.cache), limit=limit)
        known_as = {f"{PREFIX}ADDRESS": place.host.name}
        if request.relay is None:
            return agent_environment(told, name, number, self.name) | known_as
        url = f"relay://{quote(_endpoint(found, request.pool))}"
        told = replace(told, queue_url=url, store_url=url, blobs_url=url)
        token = f"{found.state}/nodes/{name}/{TOKEN}"
        return agent_environment(told, name, number, self.name) | known_as | {f"{PREFIX}TOKEN_FILE": token}

    def _each(self, items: Sequence[T], call: Callable[[T], R]) -> list[R]:
        if not items:
            return []
        with ThreadPoolExecutor(min(len(items), MOST_AT_ONCE), thread_name_prefix="ssh") as threads:
            return list(threads.map(call, items))


def _endpoint(found: Survey, pool: PoolId) -> str:
    """The file on the host that says through which of its ports the pool's relay is reached."""
    return f"{found.state}/pools/{pool}/relay"


def _survey(place: Place) -> Survey | str:
    """What a host has, or why it cannot be used."""
    try:
        found = ssh_host.survey(place.remote)
    except KubeqError as error:
        return _sentence(place.host, error)
    return f"{place.host.name}: {'; '.join(found.wrong)}" if found.wrong else found


def _sentence(host: Host, error: KubeqError) -> str:
    """One line about a host: the error, and what to do about it."""
    named = error.message if host.name in error.message else f"{host.name}: {error.message}"
    return f"{named} ({error.hint})" if error.hint else named


def _by_pool(names: Sequence[NodeName]) -> Mapping[PoolId, list[NodeName]]:
    pools: dict[PoolId, list[NodeName]] = {}
    for name in names:
        pools.setdefault(PoolId(name.rpartition("-")[0]), []).append(name)
    return pools
