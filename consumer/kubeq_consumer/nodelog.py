"""Shipping the node's own log into the store, for nodes whose files nobody else can see.

What cannot be stored is kept and stored later, up to a bound; nothing here ever holds up or ends the agent.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path

from kubeq.core.model import NodeName, Reach
from kubeq.errors import KubeqError
from kubeq.store.base import ObjectStore
from kubeq.store.node_logs import node_log_writer
from kubeq.store.segments import SegmentWriter

log = logging.getLogger(__name__)
FLUSH_S = {Reach.HOST: 1.0, Reach.NETWORK: 5.0}
"""Seconds between two segments, of a log that grows by a few lines a task: each put in a cloud is paid for."""
MOST_WAITING = 2**20
"""Bytes that wait for a store that is away; beyond that the oldest lines are dropped."""
MOST_BYTES = 20 * 2**20
"""Of one life of an agent; whoever needs more finds it on the node."""
BOOT_LOG, MOST_OF_BOOT = "boot.log", 2**18


class NodeLog(logging.Handler):
    """A logging handler that ships every record as a line; `start` before the first and `stop` after the last.

    The log of how the machine came up, where there is one in `run_dir`, comes before all that its agents ever say.
    """

    def __init__(
        self,
        store: ObjectStore,
        node: NodeName,
        formatter: logging.Formatter,
        run_dir: Path | None = None,
        *,
        most_waiting: int = MOST_WAITING,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        super().__init__()
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self.setFormatter(formatter)
        self._store = store
        self._node = node
        self._run_dir = run_dir
        self._writer: SegmentWriter | None = None
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._sending = b""
        self._shipped = 0
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node log", daemon=True)

    def start(self) -> None:
        """Take every record from now on."""
        logging.getLogger().addHandler(self)
        self._thread.start()

    def stop(self) -> None:
        """Ship what is waiting, if the store takes it, and take no more."""
        logging.getLogger().removeHandler(self)
        self._stop.set()
        self._thread.join(10)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; it is shipped soon."""
        line = f"{self.format(record)}\n".encode(errors="replace")
        with self._guard:
            self._waiting.append(line)
            self._size += len(line)
            while self._size > self._most_waiting:
                self._size -= len(self._waiting.popleft())
                self._dropped += 1

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S[self._store.reach]):
            self._ship()
        self._ship()

    def _ship(self) -> None:
        """Send what is waiting. A piece that was not taken is sent again, and nothing after it before it."""
        self._sending = self._sending or self._take()
        if not self._sending:
            return
        try:
            if self._writer is None:
                self._writer = node_log_writer(self._store, self._node)
                self._sending = (self._boot_log() if self._writer.is_first else b"") + self._sending
            self._writer.append(self._sending)
        except KubeqError as error:
            log.debug("the node's log cannot be stored now: %s", error)
            return
        self._shipped += len(self._sending)
        self._sending = b""

    def _boot_log(self) -> bytes:
        """The end of what the machine printed before there was an agent; nothing where that is not known."""
        if self._run_dir is None:
            return b""
        try:
            return (self._run_dir / BOOT_LOG).read_bytes()[-MOST_OF_BOOT:]
        except OSError:
            return b""

    def _take(self) -> bytes:
        """All that is waiting, for one segment; nothing once the bound is reached."""
        with self._guard:
            lines, dropped = list(self._waiting), self._dropped
            self._waiting.clear()
            self._size = self._dropped = 0
        if not lines or self._shipped > self._most_bytes:
            return b""
        if dropped:
            lines.insert(0, b"[kubeq: %d lines could not be stored in time]\n" % dropped)
        if self._shipped + sum(map(len, lines)) > self._most_bytes:
            lines.append(b"[kubeq: the rest of this log is on the node only]\n")
        return b"".join(lines)
