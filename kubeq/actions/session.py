"""Session: the configuration and the backends that follow from it, each opened on first use."""

from __future__ import annotations

import getpass
import os
import re
import socket
import time
from collections.abc import Sequence
from functools import cached_property

from kubeq.actions.backplane import check_names, check_reach
from kubeq.actions.folders import check_state_dir
from kubeq.actions.outfits import Dressing, dressing_of
from kubeq.config import Config
from kubeq.core.clock import Clock, SystemClock
from kubeq.core.model import Pool, PoolId
from kubeq.core.requests import Requests
from kubeq.nodes.base import NodeProvider
from kubeq.nodes.open import HERE, HOSTS, ProviderSettings, open_provider
from kubeq.nodes.prices import prices_of
from kubeq.queue.base import RecordTable
from kubeq.queue.open import open_table
from kubeq.queue.queue import Queue
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import Blobs
from kubeq.store.open import asked_of, open_store
from kubeq.store.outputs import Outputs
from kubeq.store.retry import Retrying

ATTEMPTS = 6
"""A person waits 16 s at most, and the requests, to be told that a store does not answer; agents wait on."""


class Session:
    """What every action is given."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self._providers: dict[PoolId, NodeProvider] = {}
        self._own_hosts: dict[PoolId, NodeProvider] = {}
        self._lines: dict[PoolId, tuple[str, ...]] = {}

    def beside(self, config: Config) -> Session:
        """A session of another configuration of the same queue and stores, which are not opened again."""
        other = Session(config, self.clock)
        vars(other).update(table=self.table, store=self.store, inputs_store=self.inputs_store)
        return other

    def check(self) -> None:
        """For a command to ask before anything else; makes no request.

        Raises UsageError if queue, store and nodes cannot be called so or do not go together, BackendError if the state
        folder cannot be used.
        """
        check_names(self.config)
        check_reach(self.config, self.provider.capabilities)
        check_state_dir(self.config.state_dir)

    @property
    def requests(self) -> Requests:
        """How many requests were made of what it has opened so far, and of where inputs are looked up."""
        opened = vars(self)
        return Requests(
            queue=self.table.requests if "table" in opened else {},
            store=asked_of(*(opened[name] for name in ("store", "inputs_store") if name in opened)),
        )

    @cached_property
    def table(self) -> RecordTable:
        return open_table(self.config.queue_url)

    @cached_property
    def queue(self) -> Queue:
        return Queue(self.table, self.clock)

    @cached_property
    def store(self) -> ObjectStore:
        return Retrying(open_store(self.config.store_url), time.sleep, attempts=ATTEMPTS)

    @cached_property
    def inputs_store(self) -> ObjectStore:
        """Where inputs lie: the very store of the results unless another place is named."""
        if self.config.blobs_url == self.config.store_url:
            return self.store
        return Retrying(open_store(self.config.blobs_url), time.sleep, attempts=ATTEMPTS)

    @cached_property
    def blobs(self) -> Blobs:
        return Blobs(self.inputs_store)

    @cached_property
    def outputs(self) -> Outputs:
        return Outputs(self.store)

    @cached_property
    def provider(self) -> NodeProvider:
        """Where the nodes of a new pool come from."""
        return self._open_provider(self.config.provider, self.hosts, self.region)

    @cached_property
    def region(self) -> str | None:
        """Where the machines of a new pool are: as the configuration says, else as its zones do."""
        zone = re.fullmatch(r"(.+[0-9])-?[a-z]", self.config.zones[0]) if self.config.zones else None
        return self.config.region or (zone[1] if zone else None)

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of the configuration, a line each; files are read. Raises UsageError with every mistake."""
        from kubeq.nodes.hosts import read_hosts

        place = self.config.place
        found = read_hosts(self.config.hosts, place.base, place.home) if self.config.hosts else ()
        return tuple(host.line for host in found)

    def provider_of(self, pool: PoolId) -> NodeProvider:
        """Where that pool's nodes come from. One `get`, once a pool; a pool that nobody has made yet is a new one."""
        if pool not in self._providers:
            known = self.queue.pool(pool)
            if known is None:
                return self.provider
            self.adopt(known)
        return self._providers[pool]

    def adopt(self, pool: Pool, *, anew: bool = False) -> Pool:
        """The same pool, of which it is known from now on where its nodes come from; `anew`: it has grown."""
        self._lines[pool.id] = pool.hosts
        if anew:
            self._own_hosts.pop(pool.id, None)
        if pool.hosts and pool.provider != HOSTS and pool.id not in self._own_hosts:
            self._own_hosts[pool.id] = self._open_provider(HOSTS, pool.hosts, None)
        region = pool.machines.region if pool.machines else None
        same = pool.provider == self.config.provider and (pool.provider != HOSTS or pool.hosts == self.hosts)
        if same and region in (None, self.region):
            self._providers[pool.id] = self.provider
        else:
            self._providers[pool.id] = (
                self.here if pool.provider == HERE else self._open_provider(pool.provider, pool.hosts, region)
            )
        return pool

    def follow(self, pool: Pool) -> bool:
        """Look for nodes also on hosts that have joined the pool, whose row this is now; whether any have."""
        grown = self._lines.get(pool.id, ()) != pool.hosts
        if grown:
            self.adopt(pool, anew=True)
        return grown

    def providers_of(self, pool: PoolId) -> Sequence[NodeProvider]:
        """Its own, the user's hosts that it has besides, and this machine, whose agents may serve any pool."""
        own = self.provider_of(pool)
        hosts = self.hosts_of(pool)
        return [own, *([hosts] if hosts is not None else []), *([] if own.name == HERE else [self.here])]

    def hosts_of(self, pool: PoolId) -> NodeProvider | None:
        """The user's own hosts of a pool whose other nodes come from elsewhere; None without any."""
        self.provider_of(pool)
        return self._own_hosts.get(pool)

    def on_hosts(self, lines: Sequence[str]) -> NodeProvider:
        """Those hosts of the user's own, a line each, as a place for nodes of whatever pool."""
        return self._open_provider(HOSTS, tuple(lines), None)

    @cached_property
    def here(self) -> NodeProvider:
        """This machine as a place for agents."""
        return self.provider if self.provider.name == HERE else self._open_provider(HERE, (), None)

    def _open_provider(self, name: str, hosts: tuple[str, ...], region: str | None) -> NodeProvider:
        config = self.config
        return open_provider(
            name,
            ProviderSettings(
                state_dir=config.state_dir,
                cache_dir=config.cache_dir,
                hosts=hosts,
                home=config.place.home,
                caller=self.user,
                ssh_user=config.ssh_user,
                ssh_identity=config.ssh_identity,
                ssh_known_hosts=config.ssh_known_hosts,
                agent_image=config.consumer_image,
                accept_new_hosts=config.ssh_host_keys == "accept-new",
                region=region,
                project=config.project,
                price=prices_of(config.cache_dir).price,
                through_ssm=config.ec2_connect == "ssm",
            ),
        )

    @cached_property
    def dressing(self) -> Dressing | None:
        """What the nodes of a new pool do around their attempts. Reads the files that it names."""
        return dressing_of(self.config)

    @cached_property
    def user(self) -> str:
        """The name of who calls; the number of a user without an account, as a container may have one."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # the second since Python 3.13
            return str(os.getuid())

    @cached_property
    def host(self) -> str:
        return socket.gethostname()
