"""Building an agent from its settings, and clearing up after agents that died on this machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kubeq.core.clock import Clock
from kubeq.core.resources import fits
from kubeq.core.spec import JobSpec
from kubeq.errors import BackendError, UsageError
from kubeq.queue.granting import Granting
from kubeq.queue.open import open_table
from kubeq.store.blobs import Blobs
from kubeq.store.open import open_store
from kubeq.store.outputs import Outputs
from kubeq.store.retry import Retrying
from kubeq_consumer.agent import Agent
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.finishing import Finisher
from kubeq_consumer.ledger import Ledger
from kubeq_consumer.machine import whole_machine
from kubeq_consumer.preparing import Node
from kubeq_consumer.runtimes.base import Runtime
from kubeq_consumer.runtimes.identity import ProcessMark, has_ended, own_mark
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

    def of(self, spec: JobSpec) -> Runtime:
        """The runtime that a job asks for, cleared of what dead agents left there. Raises BackendError."""
        with self._lock:
            runtime = self.process if spec.image is None else self.docker
            self.sweep(runtime)
        return runtime

    def sweep(self, runtime: Runtime) -> None:
        """Remove what dead agents left running there, once: a new attempt must never run beside an old one here."""
        if runtime.name in self._swept:
            return
        for leftover in runtime.leftovers(None):
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
    """An agent ready to run, and what has to be done before and after."""

    config: AgentConfig
    agent: Agent
    runtimes: Runtimes
    finisher: Finisher

    def clear_up(self) -> None:
        """After dead agents on this machine: their containers and processes, their work directories, their spools."""
        (folder := self.config.state_dir / "nodes" / self.config.node).mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "agent.json").write_text(json.dumps({"agent": str(own_mark()), "pool": self.config.pool}))
        try:
            self.runtimes.sweep(self.runtimes.process)
            if self.config.engine_url or Path(DEFAULT_ENGINE_URL.removeprefix("unix://")).exists():
                self.runtimes.sweep(self.runtimes.docker)
        except BackendError as error:
            log.warning("what dead agents left could not be removed yet: %s", error)
        for path in (self.config.state_dir / "nodes").glob("*/agent.json"):
            mark = _mark(path)
            if mark is None or not has_ended(mark[0]) or path.parent == folder:
                continue
            shutil.rmtree(path.parent / "attempts", ignore_errors=True)
            if mark[1] == self.config.pool:
                spool = Spool(path.parent / "spool")
                for final in spool.load():
                    self.finisher.hand_over(final, lambda _, spool=spool, final=final: spool.remove(final))  # type: ignore[misc]

    def close(self) -> None:
        """Let go of everything; what lies on disk for this node is removed, except its log and what is undelivered."""
        self.runtimes.close()
        folder = self.config.state_dir / "nodes" / self.config.node
        shutil.rmtree(folder / "attempts", ignore_errors=True)


def build(config: AgentConfig, clock: Clock) -> Built:
    """The agent of those settings. Raises UsageError, BackendError."""
    machine = whole_machine()
    total = config.limit or machine
    if not fits(total, machine):
        raise UsageError(f"the agent may give {total}, but this machine has only {machine}")
    claims = Granting(open_table(config.queue_url), clock)
    store = Retrying(open_store(config.store_url), time.sleep)
    blobs = Blobs(store)
    finisher = Finisher(claims, Spool(config.state_dir / "nodes" / config.node / "spool"))
    runtimes = Runtimes(config)
    node = Node(
        config=config,
        clock=clock,
        now=claims.now,
        claims=claims,
        blobs=blobs,
        outputs=Outputs(store),
        cache=BlobCache(config.cache_dir / "blobs", blobs),
        shipper=Shipper(store),
        finisher=finisher,
        runtime_for=runtimes.of,
        starting=threading.Semaphore((os.cpu_count() or 1) + 2),
        total_memory=total.memory or machine.memory,
    )
    agent = Agent(node, claims, Ledger(config.state_dir / "ledger.json", machine), total)
    return Built(config=config, agent=agent, runtimes=runtimes, finisher=finisher)


def _mark(path: Path) -> tuple[ProcessMark, str] | None:
    try:
        document = json.loads(path.read_text())
        mark = ProcessMark.parse(document["agent"])
        return None if mark is None else (mark, document["pool"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
