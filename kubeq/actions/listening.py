"""Why machines that come up cannot become nodes, read from their consoles while there still are any.

A machine whose boot text fails says so on its console and ends. A cloud may forget the console with the machine, and an
agent that cannot reach its queue can tell nobody else.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from kubeq.actions.session import Session
from kubeq.core.model import Node, NodeName, NodeState, Pool
from kubeq.errors import BackendError
from kubeq.nodes.machine_script import CANNOT, HAS_ENDED

LISTEN_AFTER_S = 20.0
"""No boot text fails sooner: the machine has to come up, and each step is tried again."""
LISTEN_EVERY_S = 15.0
"""A machine whose cloud forgets its console stays for three times as long (`machine_boot.GCE`)."""
STILL_HOLDS_S = 600.0
"""A machine that was asked for no longer than this before the waiting began, and has spoken, shows what holds now: who
waits has asked for machines first. What worked yesterday shows nothing: credentials may have been taken back since."""
_SAYS_WHY = "error: "


class Listening:
    """Listens to a pool's machines in turns, until a recent one has spoken to the queue: then they can become nodes."""

    def __init__(self, session: Session, pool: Pool) -> None:
        self._session = session
        self._pool = pool
        self._next_at = float("-inf")
        self._since = session.queue.now() - STILL_HOLDS_S
        self._done = False
        self._listened: Counter[NodeName] = Counter()
        self._heard: dict[NodeName, str] = {}

    def why(self, name: NodeName) -> str | None:
        """What was heard of that machine."""
        return self._heard.get(name)

    def news(self) -> tuple[Node, str] | None:
        """A machine that will never be a node, and its last words, once each. One listing and one console a look."""
        now = self._session.clock.monotonic()
        if self._done or now < self._next_at:
            return None
        self._next_at = now + LISTEN_EVERY_S
        rows = sorted(self._session.queue.peers(self._pool.id), key=lambda node: node.number)
        self._done = any(node.seen_at is not None and node.requested_at >= self._since for node in rows)
        before = self._session.queue.now() - LISTEN_AFTER_S
        silent = [
            node for node in rows if node.state is NodeState.REQUESTED and node.requested_at <= before
            and node.name not in self._heard
        ]  # fmt: skip
        if self._done or not silent:
            return None
        node, printed = min(silent, key=lambda node: self._listened[node.name]), None
        self._listened[node.name] += 1
        with suppress(BackendError):  # the console is asked for again
            printed = self._session.provider_of(self._pool.id).console(node.name)
        words = last_words(printed or "")
        if words is None:
            return None
        self._heard[node.name] = words
        return node, words


def last_words(printed: str) -> str | None:
    """Why the boot text that has printed this ends without a node; None as long as it does not."""
    error: str | None = None
    for line in printed.splitlines():
        _, says_why, rest = line.partition(_SAYS_WHY)
        error = rest.strip() if says_why else error
        _, cannot, why = line.partition(CANNOT)
        if cannot:
            return why.strip()
        if HAS_ENDED in line:
            return error or line.strip()
    return None
