"""Building an agent from its settings: which object gets which."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from kubeq.core.clock import Clock
from kubeq.core.model import GoneReason, Reach
from kubeq.core.requests import Requests
from kubeq.core.resources import fits
from kubeq.core.spec import JobSpec
from kubeq.errors import UsageError
from kubeq.json_log import JsonLines
from kubeq.machine import whole_machine
from kubeq.queue.open import open_claims
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import Blobs
from kubeq.store.checkpoints import Checkpoints
from kubeq.store.open import asked_of, open_site, open_store_of_node
from kubeq.store.outputs import Outputs
from kubeq.store.result_source import SCHEME, ResultSite
from kubeq.store.retry import Retrying
from kubeq.store.sources import Opener
from kubeq_consumer.aftermath import Aftermath
from kubeq_consumer.agent import Agent
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.finishing import Finisher
from kubeq_consumer.ledger import Ledger
from kubeq_consumer.nodelog import NodeLog
from kubeq_consumer.notice import Notice
from kubeq_consumer.outfitting import Outfitter
from kubeq_consumer.packages import Packages
from kubeq_consumer.preparing import Node
from kubeq_consumer.remotes import Remotes
from kubeq_consumer.runtimes.base import Runtime
from kubeq_consumer.settings import AgentConfig
from kubeq_consumer.shipping import Shipper
from kubeq_consumer.spool import Spool

log = logging.getLogger(__name__)
DEFAULT_ENGINE_URL = "unix:///var/run/docker.sock"


class Runtimes:
    """The runtimes of this node, each made when a job first needs it."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._swept: set[str] = set()

    @cached_property
    def process(self) -> Runtime:
        from kubeq_consumer.runtimes.process import ProcessRuntime

        return ProcessRuntime(uid=os.geteuid(), gid=os.getegid(), state=self._config.state_dir / "processes")

    @cached_property
    def docker(self) -> Runtime:
        from kubeq_consumer.runtimes.docker import DockerRuntime

        return DockerRuntime(
            uid=os.geteuid(),
            gid=os.getegid(),
            state=self._config.state_dir / "docker",
            engine_url=self._config.engine_url or DEFAULT_ENGINE_URL,
        )

    def of(self, spec: JobSpec, again: bool = False) -> Runtime:
        """The runtime that a job asks for, cleared of what dead agents left there. Raises BackendError.

        That is looked for when the runtime is first used, and `again` before an attempt that follows another: a new
        attempt must never run beside an old one here.
        """
        with self._lock:
            runtime = self.process if spec.image is None else self.docker
            if again or runtime.name not in self._swept:
                self.sweep(runtime)
        return runtime

    def sweep_all(self) -> None:
        """Remove what dead agents left, in every runtime that may have something of theirs. Raises BackendError."""
        with self._lock:
            self.sweep(self.process)
            if self._config.engine_url or Path(DEFAULT_ENGINE_URL.removeprefix("unix://")).exists():
                self.sweep(self.docker)

    def sweep(self, runtime: Runtime) -> None:
        """Remove what dead agents left running there. Raises BackendError."""
        for leftover in runtime.leftovers():
            log.warning("removing what the dead node %s left: %s", leftover.node, leftover.task)
            leftover.remove()
        self._swept.add(runtime.name)

    def close(self) -> None:
        """Let go of what the runtimes keep."""
        for name in ("process", "docker"):
            if name in self.__dict__:
                self.__dict__[name].close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An agent ready to run, and what has to be done before, while and after it does."""

    config: AgentConfig
    agent: Agent
    aftermath: Aftermath
    runtimes: Runtimes
    node_log: NodeLog | None
    notice: Notice | None

    def run(self) -> None:
        """Clear up after dead agents, work until there is a reason to leave, and let go of everything."""
        ended = threading.Event()
        if self.node_log is not None:
            self.node_log.start()
        if self.notice is not None:
            leave = partial(self.agent.ask_to_leave, GoneReason.PREEMPTED, release=True)
            threading.Thread(target=self.notice.watch, args=(leave, ended), name="notice", daemon=True).start()
        self.aftermath.clear_up()
        try:
            self.agent.run(housekeep=self.aftermath.deliver)
        finally:
            ended.set()
            self.runtimes.close()
            shutil.rmtree(self.config.folder / "attempts", ignore_errors=True)
            if self.node_log is not None:
                self.node_log.stop()

    def end(self) -> None:
        """Give back what runs and leave, because somebody has said so. May be called from a signal."""
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        taken_back = self.notice is not None and self.notice.is_given()
        self.agent.ask_to_leave(GoneReason.PREEMPTED if taken_back else GoneReason.TERMINATED, release=True)


def opener_of(results: ResultSite, url: str) -> Opener:
    """What opens a source that a manifest names. Raises UsageError for a scheme that has none."""
    return results if url.startswith(f"{SCHEME}://") else open_site(url)


def build(config: AgentConfig, clock: Clock) -> Built:
    """The agent of those settings. Raises UsageError, BackendError."""
    machine = whole_machine()
    total = machine if config.limit is None else replace(config.limit, gpus=machine.gpus)
    if not fits(total, machine):
        raise UsageError(f"the agent may give {total}, but this machine has only {machine}")
    claims = open_claims(config.queue_url, clock, config.token)
    store: ObjectStore = Retrying(open_store_of_node(config.store_url, config.token), time.sleep)
    shared = config.blobs_url == config.store_url
    inputs_store = store if shared else Retrying(open_store_of_node(config.blobs_url, config.token), time.sleep)
    blobs = Blobs(inputs_store)
    finisher = Finisher(claims, Spool(config.folder / "spool"))
    runtimes = Runtimes(config)
    outputs, cached = Outputs(store), config.cache_dir / "blobs"
    cache = BlobCache(cached, blobs)
    node = Node(
        config=config,
        clock=clock,
        now=claims.now,
        requests=lambda: Requests(queue=claims.requests, store=asked_of(store, inputs_store)),
        claims=claims,
        blobs=blobs,
        outputs=outputs,
        checkpoints=Checkpoints(store),
        leaving=threading.Event(),
        cache=cache,
        remotes=Remotes(cached, cache, partial(opener_of, ResultSite(outputs))),
        outfitter=Outfitter(config, blobs, cache),
        packages=Packages(config, claims, blobs, cache),
        shipper=Shipper(store),
        finisher=finisher,
        runtime_for=runtimes.of,
        starting=threading.Semaphore((os.cpu_count() or 1) + 2),
        total_memory=total.memory or machine.memory,
    )
    agent = Agent(node, claims, Ledger(config.state_dir / "ledger.json", machine), total)
    seen_here = config.log_here and store.reach is Reach.HOST
    return Built(
        config=config,
        agent=agent,
        aftermath=Aftermath(config, runtimes.sweep_all, finisher),
        runtimes=runtimes,
        node_log=None if seen_here else NodeLog(store, config.node, JsonLines(), config.run_dir),
        notice=None if config.notice is None else Notice(config.notice),
    )
