"""Session: the configuration and the backends that follow from it, each opened on first use."""

from __future__ import annotations

import getpass
import socket
import time
from functools import cached_property

from kubeq.actions.backplane import check_reach
from kubeq.actions.folders import check_state_dir
from kubeq.config import Config
from kubeq.core.clock import Clock, SystemClock
from kubeq.nodes.base import NodeProvider
from kubeq.nodes.open import open_provider
from kubeq.queue.open import open_table
from kubeq.queue.queue import Queue
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import Blobs
from kubeq.store.open import open_store
from kubeq.store.outputs import Outputs
from kubeq.store.retry import Retrying


class Session:
    """What every action is given."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()

    def check(self) -> None:
        """For a command to ask before anything else; makes no request.

        Raises UsageError if queue, store and nodes do not go together, BackendError if the state folder cannot be used.
        """
        check_reach(self.config, self.provider.capabilities)
        check_state_dir(self.config.state_dir)

    @cached_property
    def queue(self) -> Queue:
        return Queue(open_table(self.config.queue_url), self.clock)

    @cached_property
    def store(self) -> ObjectStore:
        return Retrying(open_store(self.config.store_url), time.sleep)

    @cached_property
    def blobs(self) -> Blobs:
        shared = self.config.blobs_url == self.config.store_url
        return Blobs(self.store if shared else Retrying(open_store(self.config.blobs_url), time.sleep))

    @cached_property
    def outputs(self) -> Outputs:
        return Outputs(self.store)

    @cached_property
    def provider(self) -> NodeProvider:
        return open_provider(self.config.provider, self.config.state_dir)

    @cached_property
    def user(self) -> str:
        return getpass.getuser()

    @cached_property
    def host(self) -> str:
        return socket.gethostname()
