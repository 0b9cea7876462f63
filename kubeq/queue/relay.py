"""The Claims protocol for a node behind a relay.

What a node holds, the relay looks up by itself; the node only names it. A claim names all that this agent holds, so
that a relay which was restarted learns it, and so that what was granted in an answer that got lost is granted again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from secrets import token_hex

from kubeq.core import wire
from kubeq.core.clock import Clock
from kubeq.core.model import JobId, Node, NodeName, PoolId, Reach, Task, TaskId
from kubeq.core.packages import Package
from kubeq.core.wire import Document
from kubeq.errors import BackendError
from kubeq.metering import Meter
from kubeq.queue.claims import Claimed, Final, Grant, Look, Room
from kubeq.queue.swaps import batches
from kubeq.queue.wire import (
    End,
    decode_claimed,
    decode_grants,
    decode_order,
    encode_end,
    encode_hold,
    encode_room,
    hold_of,
)
from kubeq.relay_client import RelayClient

FINALS_A_REQUEST = 20
"""Each may carry two messages of 20,000 characters, four bytes each; a request may have 8 MiB."""
CLOSE_S = 2.0
"""An answer that took longer says too little of the relay's clock."""


class RelayClaims:
    """The agent's half of a queue that only its relay can reach. One object an agent."""

    def __init__(self, client: RelayClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._life = token_hex(8)
        self._offset = 0.0
        self._lock = threading.Lock()
        self._meter = Meter()
        self._held: dict[str, Grant] = {}
        self._seen: str | None = None
        self._looked: str | None = None

    @property
    def reach(self) -> Reach:
        """HOST: to ask often is free, since `look` asks only after a change and `wait` lasts until there is one."""
        return Reach.HOST

    @property
    def requests(self) -> Mapping[str, int]:
        """HTTP requests by what is asked."""
        return self._meter.read()

    def now(self) -> float:
        """The relay's time, from its latest answer."""
        return self._clock.now() + self._offset

    def claim(self, pool: PoolId, node: NodeName, room: Room) -> Claimed:
        """See `Claims.claim`."""
        with self._lock:
            holding = list(self._held.values())
        about = {"life": self._life, "pool": pool, "node": node, "room": encode_room(room)}
        answer = self._ask("claim", {**about, "holding": [encode_hold(hold_of(grant)) for grant in holding]})
        claimed = decode_claimed(answer)
        self._hold(claimed.grants)
        return claimed

    def renew(self, grants: Sequence[Grant], started_at: Sequence[float | None]) -> Sequence[Grant | None]:
        """See `Claims.renew`."""
        if not grants:
            return []
        holds = [encode_hold(hold_of(grant)) for grant in grants]
        answer = self._ask("renew", {"holding": holds, "started_at": list(started_at)})
        renewed = decode_grants(answer["grants"])
        self._hold([grant for grant in renewed if grant is not None])
        return renewed

    def finish(self, finals: Sequence[Final]) -> Sequence[Task | None]:
        """See `Claims.finish`."""
        answers: list[Task | None] = []
        for batch in batches(finals, FINALS_A_REQUEST):
            ends = [
                End(hold=hold_of(final.grant), ending=final.ending, reason=final.reason, report=final.report)
                for final in batch
            ]
            answer = self._ask("finish", {"ends": [encode_end(end) for end in ends]})
            answers.extend(
                _decode_task(final.grant.task.id, row) for final, row in zip(batch, answer["tasks"], strict=True)
            )
            with self._lock:
                for end in ends:
                    self._held.pop(end.hold.nonce, None)
        return answers

    def look(self, node: Node, grants: Sequence[Grant]) -> Look:
        """See `Claims.look`. Asks only if the relay has told of a change since the last answer."""
        seen = self._seen
        if seen is not None and seen == self._looked:
            return Look()
        answer = self._ask("look", {"holding": [encode_hold(hold_of(grant)) for grant in grants]})
        self._looked = seen
        urgent = set(answer["urgent"])
        return Look(
            order=decode_order(answer["order"]),
            packages=answer["packages"],
            urgent=tuple(grant for place, grant in enumerate(grants) if place in urgent),
        )

    def report(self, node: Node) -> Node:
        """See `Claims.report`."""
        answer = self._ask("report", {"node": node.name, "row": wire.encode_node(node)})
        return wire.decode_node(node.name, answer["row"])

    def pin(self, job: JobId, name: str, value: str) -> str:
        """See `Claims.pin`."""
        return str(self._ask("pin", {"job": job, "name": name, "value": value})["value"])

    def peers(self, pool: PoolId) -> Sequence[Node]:
        """See `Claims.peers`."""
        return [wire.decode_node(NodeName(name), row) for name, row in self._ask("peers", {"pool": pool})["nodes"]]

    def packages(self, pool: PoolId) -> Sequence[Package]:
        """See `Claims.packages`."""
        return [wire.decode_package(package) for package in self._ask("packages", {"pool": pool})["packages"]]

    def wait(self, seconds: float) -> None:
        """See `Claims.wait`: the relay keeps the request until the queue has changed."""
        self._seen = str(self._call("wait", {"seen": self._seen, "seconds": seconds}, seconds)["seen"])

    def _call(self, name: str, document: Document, patience_s: float = 0.0) -> Document:
        self._meter.count(name)
        try:
            return self._client.call(name, document, patience_s=patience_s)
        except ValueError as error:
            raise BackendError(f"the relay does not understand this agent: {error}") from error

    def _ask(self, name: str, document: Document) -> Document:
        """The answer, from which the relay's time is learnt too."""
        before, started = self._clock.now(), self._clock.monotonic()
        answer = self._call(name, document)
        after, took = self._clock.now(), self._clock.monotonic() - started
        if took <= CLOSE_S:
            self._offset = float(answer["at"]) - (before + after) / 2
        return answer

    def _hold(self, grants: Sequence[Grant]) -> None:
        with self._lock:
            self._held.update({hold_of(grant).nonce: grant for grant in grants})


def _decode_task(id: TaskId, row: Sequence[object] | None) -> Task | None:
    if row is None:
        return None
    claimable_at, body = row
    if not isinstance(body, str) or not isinstance(claimable_at, float | int | None):
        raise BackendError(f"the relay's answer about task {id} cannot be read")
    return wire.decode_task(id, claimable_at, body)
