"""Looking at a pool's nodes again and again while somebody waits: at once where that is cheap, else from a thread.

To ask machines on a network takes as long as the slowest of them, and one that is dead does not answer at all. A job's
end must not be noticed late for it.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from kubeq.actions.launching import Nodes, observe_pool
from kubeq.actions.outages import Asked, Outage
from kubeq.actions.session import Session
from kubeq.core.model import PoolId, Reach
from kubeq.errors import BackendError, KubeqError

log = logging.getLogger(__name__)
FIRST_S = 0.5
"""How long the first look is waited for."""


class Lookout:
    """What is seen of a pool's nodes. Use it as a context: the thread, if it needs one, ends with that."""

    def __init__(self, session: Session, pool: PoolId) -> None:
        self._session = session
        self._pool = pool
        self._provider = session.provider_of(pool)
        self._seen: tuple[float, Nodes | KubeqError] = (float("-inf"), Nodes())
        self._acted_at = session.clock.monotonic()
        self._asked = Asked("what knows the nodes")
        self._first = threading.Event()
        self._ending = threading.Event()

    @property
    def _is_cheap(self) -> bool:
        return self._provider.capabilities.reach is Reach.HOST

    def __enter__(self) -> Lookout:
        if not self._is_cheap:
            threading.Thread(target=self._look, name="lookout", daemon=True).start()
            self._first.wait(FIRST_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()

    def nodes(self) -> Nodes:
        """What was seen last. Raises what the last look raised, unless that may pass and something was seen before."""
        if self._is_cheap:
            self._look_once()
        seen = self._seen[1]
        if isinstance(seen, KubeqError):
            raise seen
        return seen

    @property
    def outage(self) -> Outage | None:
        """Set while what was seen last is old, as nothing has answered since."""
        return self._asked.outage

    @property
    def is_fresh(self) -> bool:
        """Whether that look began after the caller had changed anything last."""
        return self._seen[0] >= self._acted_at

    def acted(self) -> None:
        """The caller may have changed something: what was seen so far says too little."""
        self._acted_at = self._session.clock.monotonic()

    def _look(self) -> None:
        while not self._ending.is_set():
            self._look_once()
            self._first.set()
            self._ending.wait(self._provider.capabilities.look_every_s)

    def _look_once(self) -> None:
        began = self._session.clock.monotonic()
        try:
            self._seen = (began, observe_pool(self._session, self._pool))
            self._asked.answered()
        except KubeqError as error:
            if not (isinstance(error, BackendError) and error.transient and isinstance(self._seen[1], Nodes)):
                self._seen = (began, error)
            else:  # what was seen last holds until a cloud that is away for a while answers again
                self._asked.failed(error, began)
                log.info("the nodes cannot be looked at now: %s", error.message)
