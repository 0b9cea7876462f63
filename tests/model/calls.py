"""Calls of a Queue that stop before every request, so that a test decides what comes next and what goes wrong.

Each call runs on a thread of its own, but only one thread of all ever runs: the order is the test's and repeatable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from kubeq.core.model import Reach
from kubeq.queue.base import Change, Cursor, Key, Page, Partition, Row, Standing, Swapped, Tally


class Fault(StrEnum):
    """What becomes of one request. The caller's error is not transient: a try again is TWICE, without the pauses."""

    NONE = "none"
    LOST = "applied, the answer lost"
    REFUSED = "not applied, an error answered"
    PART = "applied but for its first row, an error answered"
    TWICE = "applied, the answer lost, sent again and answered"
    LATE = "an error answered, applied at any time later"
    STALE = "a due page of some time ago"


class Clock:
    """A machine's clock: the world's, and off by some seconds."""

    def __init__(self, world_time: Callable[[], float], offset_s: float) -> None:
        self._world_time = world_time
        self.offset_s = offset_s

    def now(self) -> float:
        return self._world_time() + self.offset_s

    def monotonic(self) -> float:
        return self._world_time()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that a call wants to make; what it writes was made from a clock between `earliest` and `latest`."""

    method: str
    arguments: tuple[Any, ...]
    earliest: float
    latest: float

    @property
    def writes(self) -> bool:
        return self.method in ("insert", "swap", "delete")


class Plan:
    """What goes wrong with the next requests of a call: with its writes and with its reads, each in their order."""

    def __init__(self, writes: Sequence[Fault] = (), reads: Sequence[Fault] = ()) -> None:
        self._writes, self._reads = list(writes), list(reads)
        self._words = f"Plan({[fault.name for fault in writes]}, {[fault.name for fault in reads]})"

    def __repr__(self) -> str:
        return self._words

    def next(self, request: Request) -> Fault:
        """The fault of that request."""
        left = self._writes if request.writes else self._reads
        return left.pop(0) if left else Fault.NONE


class _Abandoned(BaseException):
    """The process that made the call is gone."""


@dataclass(eq=False, kw_only=True)
class Call:
    """One call of a Queue by somebody whose clock is `clock`, with what the checks must know about it."""

    kind: str
    run: Callable[[], Any]
    clock: Clock
    facts: dict[str, Any] = field(default_factory=dict)
    request: Request | None = None
    done: bool = False
    answer: Any = None
    error: BaseException | None = None
    faults: int = 0
    disturbed: bool = False
    """Whether somebody else changed anything while the call was under way."""
    started: int = 0
    """The world's number of changes when the call began."""

    def __post_init__(self) -> None:
        self._began_at = self.clock.now()
        self._stopped, self._go = threading.Semaphore(0), threading.Semaphore(0)
        self._reply: Any = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.call = self  # type: ignore[attr-defined]

    def start(self) -> None:
        """Run to the first request, or to the end."""
        self._thread.start()
        self._stopped.acquire()

    def resume(self, reply: Any) -> None:
        """Go on with the answer (an exception is raised in the call) to the next request, or to the end."""
        self.request, self._reply = None, reply
        self._go.release()
        self._stopped.acquire()

    def abandon(self) -> None:
        """The caller dies here."""
        if not self.done:
            self.resume(_Abandoned())

    def ask(self, method: str, *arguments: Any) -> Any:
        """On the call's own thread: stop until the request has been answered."""
        latest = self.clock.now()
        self.request = Request(method=method, arguments=arguments, earliest=self._began_at, latest=latest)
        self._stopped.release()
        self._go.acquire()
        if isinstance(self._reply, BaseException):
            raise self._reply
        return self._reply

    def _main(self) -> None:
        try:
            self.answer = self.run()
        except BaseException as error:  # noqa: BLE001 (the judge looks at it)
            self.error = error
        self.done, self.request = True, None
        self._stopped.release()


class Wire:
    """A RecordTable whose every request waits for the test's decision."""

    reach: ClassVar[Reach] = Reach.NETWORK
    batch: ClassVar[int] = 2
    """So small that three tasks are two batches and two pages."""

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        return self._ask("insert", tuple(rows))  # type: ignore[no-any-return]

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        return self._ask("get", tuple(keys))  # type: ignore[no-any-return]

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        return self._ask("swap", tuple(changes))  # type: ignore[no-any-return]

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        return self._ask("due", partition, before, after, limit)  # type: ignore[no-any-return]

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        return self._ask("list", partition, after, limit)  # type: ignore[no-any-return]

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        return self._ask("count", partition, consistent)  # type: ignore[no-any-return]

    def delete(self, keys: Sequence[Key]) -> None:
        self._ask("delete", tuple(keys))

    def clock_offset(self) -> float:
        return 0.0

    def wait(self, seconds: float) -> None:
        raise AssertionError("nothing in the model waits")

    def _ask(self, method: str, *arguments: Any) -> Any:
        call: Call = threading.current_thread().call  # type: ignore[attr-defined]
        return call.ask(method, *arguments)
