"""Nodes on the user's own hosts, reached by SSH: one agent a host and pool. Nothing is installed there beforehand.

What is done on a host is in `ssh_host`, how an agent is started there in `ssh_launch`, how one logs in in `ssh_login`
and `ssh_remote`. An agent is started detached: the connection is only its way in, and a connection that breaks ends
nothing. Which host a node of the pool lives on is asked of the hosts each time.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from kubeq.core.model import Node, NodeName, PoolId, Reach
from kubeq.core.resources import Resources
from kubeq.errors import KubeqError, NotFound
from kubeq.nodes import ssh_host
from kubeq.nodes.base import HostSeen, Launched, NodeCapabilities, NodeRequest, NoMachines, Observation, Refused
from kubeq.nodes.hosts import Host
from kubeq.nodes.ssh_connections import Connections
from kubeq.nodes.ssh_host import Survey
from kubeq.nodes.ssh_keys import forget_key, key_mark, key_path
from kubeq.nodes.ssh_launch import PROVIDER, Launcher, Place, look, seen, sentence, unseen, with_key
from kubeq.nodes.ssh_login import Login, SshSettings, resolve_login
from kubeq.nodes.ssh_tunnels import drop_tunnel, ensure_tunnels, problem_of, revive_tunnels

log = logging.getLogger(__name__)
MOST_AT_ONCE = 100
"""Hosts that are asked side by side; each has a thread that mostly waits."""
LOOK_S = 5.0
COMING_S = 60.0
"""A tunnel that somebody has asked for since may be for a node that comes up just now."""
T = TypeVar("T")
R = TypeVar("R")


class SshProvider(NoMachines):
    """A NodeProvider over a list of hosts. A host is logged in to when it is first asked something."""

    name: ClassVar[str] = PROVIDER
    capabilities: NodeCapabilities = NodeCapabilities(
        reach=Reach.NETWORK, costs_money=False, relays=True, look_every_s=LOOK_S
    )

    def __init__(
        self, hosts: Sequence[Host], settings: SshSettings, state_dir: Path, cache_dir: Path, agent_image: str
    ) -> None:
        self._hosts = hosts
        self._settings = settings
        self._state_dir = state_dir
        self._cache_dir = cache_dir
        self._agent_image = agent_image
        self._connections = Connections()
        self._silent: dict[str, str] = {}

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
        if request.relay is not None:
            ensure_tunnels(self._state_dir)  # its start takes as long as the logins
        places, problems = self._places(request.pool)
        standing = {name: one for place in places for name, one in place.residents.nodes.items() if one.alive}
        answers: dict[NodeName, Launched | Refused] = {
            name: Launched(name=name, pid=standing[name].pid) for name in names if name in standing
        }
        free = [place for place in places if not place.residents.live]
        surveys = _each(free, partial(look, containers=request.containers))
        good = [(place, found) for place, found in zip(free, surveys, strict=True) if isinstance(found, Survey)]
        problems += [found for found in surveys if isinstance(found, str)]
        launcher = Launcher(
            request=request, state_dir=self._state_dir, cache_dir=self._cache_dir, agent_image=self._agent_image
        )
        left = [name for name in names if name not in answers]
        while left and good:  # a host on which it fails is replaced by the next one
            chosen, good = list(zip(left, good, strict=False)), good[len(left) :]
            calls = [partial(launcher.start, *where, name, names[name]) for name, where in chosen]
            for answer in _each(calls, lambda call: call()):
                if isinstance(answer, Launched):
                    answers[answer.name] = answer
                else:
                    problems.append(answer.reason)
            left = [name for name in names if name not in answers]
        taken = "every host that there is has an agent of this pool"
        reasons = [*problems, *[problems[-1] if problems else taken] * len(left)]
        return answers | {name: Refused(name=name, reason=why) for name, why in zip(left, reasons, strict=False)}

    def observe(self, pool: PoolId) -> Mapping[NodeName, Observation]:
        """See NodeProvider. What is on hosts that do not answer is left out: nothing is known of it.

        Where no node of the pool lives any more, its key is removed; and tunnels that were stopped are kept again.
        """
        places, problems = self._places(pool)
        for problem in problems:
            log.info("not seen: %s", problem)
        over = [place for place in places if not place.residents.live]
        for place in over:
            drop_tunnel(self._state_dir, pool, place.host.name, older_s=COMING_S)
        _each([place for place in over if place.residents.has_key], partial(_sweep_key, pool=pool))
        revive_tunnels(self._state_dir, pool)
        return {
            name: replace(one, address=str(place.host), reason=one.reason or self._problem_of(pool, place.host, one))
            for place in places
            for name, one in place.residents.nodes.items()
        }

    def silent(self, pool: PoolId) -> Mapping[str, str]:
        """See NodeProvider."""
        return dict(self._silent)

    def terminate(self, names: Sequence[NodeName]) -> None:
        """See NodeProvider. SIGTERM to what keeps the agent, which hands it on."""
        for pool, named in _by_pool(names).items():
            places, _ = self._places(pool)
            there = [place for place in places if place.residents.live]
            _each(there, partial(_stop, named))

    def command(self, node: Node, words: Sequence[str], *, terminal: bool) -> list[str]:
        """See NodeProvider. OpenSSH's own client, which reads ~/.ssh/config by itself; the pool's key is offered."""
        host = next((host for host in self._hosts if host.name == node.address), None)
        if host is None:
            raise NotFound(
                f"no host of the pool is called {node.address or node.host!r}", hint="kubeq nodes lists them"
            )
        settings, key = self._settings, key_path(self._state_dir, node.pool)
        login = self._login_of(host, node.pool)
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
        """See NodeProvider. With None, what has been over for more than a day, of any pool of this user there."""
        if pool is None:
            _each(self._hosts, self._tidy)
            return
        places, _ = self._places(pool)
        _each(places, lambda place: ssh_host.forget(place.remote, list(place.residents.nodes)))
        _each([place for place in places if place.residents.has_key], partial(_sweep_key, pool=pool))
        for host in self._hosts:
            drop_tunnel(self._state_dir, pool, host.name)
        if len(places) == len(self._hosts):
            forget_key(self._state_dir, pool)

    def look(self, pool: PoolId) -> Sequence[HostSeen]:
        """See NodeProvider. All are looked at side by side."""

        def seen_of(host: Host) -> HostSeen:
            place = self._place(host, pool)
            return unseen(host, place) if isinstance(place, str) else seen(place)

        return _each(self._hosts, seen_of)

    def _login_of(self, host: Host, pool: PoolId) -> Login:
        """How the pool logs in to the host: with its own key, then with the user's."""
        return with_key(resolve_login(host, self._settings), key_path(self._state_dir, pool))

    def _places(self, pool: PoolId) -> tuple[list[Place], list[str]]:
        """The hosts that answer, in order, and why the others do not."""
        looked = _each(self._hosts, lambda host: self._place(host, pool))
        places = [place for place in looked if isinstance(place, Place)]
        return places, [problem for problem in looked if isinstance(problem, str)]

    def _place(self, host: Host, pool: PoolId) -> Place | str:
        try:
            login = self._login_of(host, pool)
            remote = self._connections.to(host.name, login)
            residents = ssh_host.residents(remote, pool, key_mark(pool))
        except KubeqError as error:
            self._silent[host.name] = sentence(host, error)
            return self._silent[host.name]
        self._silent.pop(host.name, None)
        return Place(host=host, login=login, remote=remote, residents=residents)

    def _tidy(self, host: Host) -> None:
        try:
            ssh_host.tidy(self._connections.to(host.name, resolve_login(host, self._settings)))
        except KubeqError as error:
            log.info("not tidied: %s", sentence(host, error))

    def _problem_of(self, pool: PoolId, host: Host, node: Observation) -> str | None:
        """Why a node that lives on the host does not reach the relay now."""
        problem = problem_of(self._state_dir, pool, host.name) if node.alive else None
        return problem and f"it has no way to this machine's queue now: {problem}"


def _each(items: Sequence[T], call: Callable[[T], R]) -> list[R]:
    """The answers of calls that are made side by side, in order."""
    if not items:
        return []
    with ThreadPoolExecutor(min(len(items), MOST_AT_ONCE), thread_name_prefix="ssh") as threads:
        return list(threads.map(call, items))


def _stop(named: Sequence[NodeName], place: Place) -> None:
    ssh_host.stop(place.remote, named)


def _sweep_key(place: Place, pool: PoolId) -> None:
    try:
        ssh_host.sweep_key(place.remote, pool, key_mark(pool))
    except KubeqError as error:
        log.warning("the key of pool %s stays on %s: %s", pool, place.host.name, error.message)


def _by_pool(names: Sequence[NodeName]) -> Mapping[PoolId, list[NodeName]]:
    pools: dict[PoolId, list[NodeName]] = {}
    for name in names:
        pools.setdefault(PoolId(name.rpartition("-")[0]), []).append(name)
    return pools
