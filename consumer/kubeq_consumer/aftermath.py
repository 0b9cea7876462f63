"""What dead agents left on this machine: what runs is stopped, work directories go, outcomes are delivered."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kubeq.core.model import PoolId, Task, TaskId
from kubeq.errors import BackendError
from kubeq.machine import ProcessMark, has_ended, own_mark
from kubeq.queue.claims import Final
from kubeq_consumer.finishing import Finisher
from kubeq_consumer.settings import AgentConfig
from kubeq_consumer.spool import Spool

log = logging.getLogger(__name__)


class Aftermath:
    """Looks after the dead of one state folder. `sweep` removes what they left running; it raises BackendError."""

    def __init__(self, config: AgentConfig, sweep: Callable[[], None], finisher: Finisher) -> None:
        self._config = config
        self._nodes = config.state_dir / "nodes"
        self._sweep = sweep
        self._finisher = finisher
        self._handed_over: set[tuple[TaskId, int]] = set()

    def clear_up(self) -> None:
        """Before anything is claimed: clear up, then write this agent's own mark over that of an earlier life."""
        try:
            self._sweep()
            for folder, _ in self._dead():
                shutil.rmtree(folder / "attempts", ignore_errors=True)
        except BackendError as error:
            log.warning("what dead agents left could not be removed yet: %s", error)
        self.deliver()
        own = self._nodes / self._config.node
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = own / "agent.json.new"
        temporary.write_text(json.dumps({"agent": str(own_mark()), "pool": self._config.pool}), encoding="utf-8")
        temporary.replace(own / "agent.json")

    def deliver(self) -> None:
        """Hand over, once each, the outcomes that dead agents of this pool could not deliver."""
        for folder, pool in self._dead():
            if pool != self._config.pool:
                continue
            spool = Spool(folder / "spool")
            for final in spool.load():
                name = (final.grant.task.id, final.grant.attempt)
                if name not in self._handed_over:
                    self._handed_over.add(name)
                    self._finisher.hand_over(final, partial(_remove, spool, final), own=False)

    def _dead(self) -> Iterator[tuple[Path, PoolId]]:
        """The folders of agents that have certainly ended, and their pools."""
        for path in self._nodes.glob("*/agent.json"):
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                mark = ProcessMark.parse(document["agent"])
                pool = PoolId(document["pool"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if mark is not None and has_ended(mark):
                yield path.parent, pool


def _remove(spool: Spool, final: Final, recorded: Task | None) -> None:
    spool.remove(final)
