"""Sending requests to DynamoDB: side by side, and again while it cannot answer for now. Knows no rows.

Nothing below repeats a request, and what is raised here as transient is marked `waited`, so nothing above does either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kubeq import aws
from kubeq.metering import Meter
from kubeq.queue.offset import ClockOffset
from kubeq.queue.patience import Patience
from kubeq.queue.side_by_side import SideBySide

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

READ_S = 6.0
"""DynamoDB answers within milliseconds: an answer that takes so long is lost."""
PARALLEL = 32
"""Requests under way at once: enough to keep one core busy at 10 ms an answer."""

Answer = TypeVar("Answer", bound=Mapping[str, Any])
Given = TypeVar("Given")
Got = TypeVar("Got")


class Calls:
    """Requests about one table. Safe to use from several threads; connects and starts threads when first used."""

    def __init__(self, thing: str, connect: Callable[[Meter], DynamoDBClient], patience_s: float) -> None:
        self.meter = Meter()
        self.offset = ClockOffset()
        self._thing = thing
        self._connect = connect
        self._patience = Patience(total_s=patience_s)
        self._side_by_side = SideBySide(PARALLEL, "dynamodb")
        self._making = threading.Lock()
        self._made: DynamoDBClient | None = None

    def ask(self, request: Callable[[DynamoDBClient], Answer]) -> Answer:
        """The answer to a request that may be made any number of times; each has all of the patience."""
        return self._patience.repeat(lambda: self._ask_once(request), self._side_by_side.ended)

    def each(self, do: Callable[[Given], Got], items: Sequence[Given]) -> list[Got]:
        """What `do` makes of each, side by side; `do` may `ask`, and must not use `each`. See SideBySide."""
        return self._side_by_side.run([partial(do, item) for item in items])

    def _ask_once(self, request: Callable[[DynamoDBClient], Answer]) -> Answer:
        client = self._client
        with aws.plainly("dynamodb", self._thing):
            sent_at = time.time()
            answer = request(client)
            date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
            self.offset.saw(date, sent_at=sent_at, received_at=time.time())
        return answer

    @property
    def _client(self) -> DynamoDBClient:
        """The one client of all threads."""
        with self._making:
            if self._made is None:
                self._made = self._connect(self.meter)
            return self._made
