"""Looks at running commands from time to time, in one thread for all of them: often at first, then five times a second.

The figures of a container vanish within milliseconds of its end, long before the engine says that it has ended. So the
sampler also waits on a process in it, by a process descriptor, and takes the last look as the last one dies. What that
process held (cpu, memory, ports) is free then, and whoever waits for it need not wait for the engine.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

from kubeq_consumer.runtimes.cgroup import Reading, later

FIRST_S = 0.02
LONGEST_S = 0.2
"""Seconds between two looks, at first and at most: what a last look that comes too late can miss."""


class Watch:
    """The figures of one command so far, and whether it still runs. Safe to use from several threads.

    `look` reads them (None: there is nothing yet, or nothing any more), `process` names a process of the command (None:
    there is certainly none now, 0: it cannot be seen). `quiet` is set once the command had a process and has none any
    more, and at the latest by `end`.
    """

    def __init__(self, look: Callable[[], Reading | None], process: Callable[[], int | None]) -> None:
        self._look = look
        self.process = process
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self.over = False
        self.begun = False
        self.quiet = threading.Event()

    @property
    def reading(self) -> Reading:
        """The latest figures."""
        return self._reading or Reading()

    def look(self) -> bool:
        """Take the figures of now; False as long as there were none."""
        with self._lock:
            now = self._look()
            if now is not None:
                self._reading = later(self.reading, now)
            return self._reading is not None

    def end(self) -> None:
        """The last look: the sampler lets go of it."""
        self.over = True
        self.look()
        self.quiet.set()


class Sampler:
    """Keeps watches fresh. Its thread lives while there is anything to watch."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._incoming: list[Watch] = []
        self._running = False
        self._wake = -1

    def add(self, watch: Watch) -> None:
        """Look at it from now on, until it is over. Raises OSError or RuntimeError if there is no room for it."""
        with self._lock:
            if not self._running:
                self._begin()
            self._incoming.append(watch)
            os.eventfd_write(self._wake, 1)

    def _begin(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            threading.Thread(target=self._run, name="kubeq-sampler", daemon=True).start()
        except RuntimeError:
            os.close(self._wake)
            raise
        self._running = True

    def _run(self) -> None:
        rounds = _Rounds(self._wake, self._longest_s)
        while True:
            with self._lock:
                rounds.take(self._incoming)
                self._incoming = []
                if not rounds.watches:
                    self._running = False
                    os.close(self._wake)
                    return
            rounds.once()


class _Rounds:
    """What the sampler's thread keeps: when each watch is due, and whose process it waits for."""

    def __init__(self, wake: int, longest_s: float) -> None:
        self._wake = wake
        self._longest_s = longest_s
        self._poll = select.poll()
        self._poll.register(wake, select.POLLIN)
        self._by_descriptor: dict[int, Watch] = {}
        self.watches: dict[Watch, tuple[float, float]] = {}
        """Watch -> (when it is due, how long to the next time)."""

    def take(self, incoming: list[Watch]) -> None:
        """Begin with new watches, and let go of those that are over."""
        now = time.monotonic()
        self.watches.update((watch, (now + FIRST_S, FIRST_S)) for watch in incoming)
        for watch in [watch for watch in self.watches if watch.over]:
            del self.watches[watch]
        for descriptor in [key for key, watch in self._by_descriptor.items() if watch.over]:
            self._drop(descriptor)

    def once(self) -> None:
        """Wait for what comes first: a process that ends, a watch that is due, a new one."""
        next_at = min(at for at, _ in self.watches.values())
        for descriptor, _ in self._poll.poll(max(0.0, next_at - time.monotonic()) * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            else:
                watch = self._by_descriptor[descriptor]
                watch.look()
                self._drop(descriptor)
                self._arm(watch)
        now = time.monotonic()
        for watch, (at, interval) in list(self.watches.items()):
            if at <= now:
                self._visit(watch, now, interval)

    def _visit(self, watch: Watch, now: float, interval: float) -> None:
        if watch.look():
            interval = min(interval * 2, self._longest_s)
            if watch not in self._by_descriptor.values():
                self._arm(watch)
        self.watches[watch] = (now + interval, interval)

    def _arm(self, watch: Watch) -> None:
        process = watch.process()
        if process is None and watch.begun:
            watch.look()
            watch.quiet.set()
        elif process:
            watch.begun = True
            with contextlib.suppress(OSError):  # it was quicker, or lives in a pid namespace that cannot be seen
                descriptor = os.pidfd_open(process)
                self._by_descriptor[descriptor] = watch
                self._poll.register(descriptor, select.POLLIN)

    def _drop(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        os.close(descriptor)
        del self._by_descriptor[descriptor]
