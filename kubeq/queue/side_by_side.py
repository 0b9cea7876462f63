"""Requests of one call side by side, in threads; nothing of it is under way any more when the call is over.

For tables in a network, where one call may be hundreds of requests. Knows no table, and repeats nothing: that is
`patience`, which gives a request up as soon as its batch has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar, cast

T = TypeVar("T")


class SideBySide:
    """The threads of one table. Safe to use from several threads; starts none before it has work."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._own = threading.local()

    @property
    def ended(self) -> threading.Event | None:
        """Set as soon as the batch that this thread works for has ended; None in a thread that works for none."""
        return getattr(self._own, "ended", None)

    def run(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """What the calls answer, in their order. A call must not itself `run`.

        The first error ends the batch: what has not begun is left out, and what waits to be repeated is given up, so
        that nothing is under way any more when this returns or raises, also when somebody pressed Ctrl-C.
        """
        if len(calls) < 2:
            return [call() for call in calls]
        ended = threading.Event()
        failed: list[BaseException] = []

        def one(call: Callable[[], T]) -> T | None:
            if ended.is_set():
                return None
            self._own.ended = ended
            try:
                return call()
            except BaseException as error:
                failed.append(error)
                ended.set()
                raise

        made = [self._threads.submit(one, call) for call in calls]
        try:
            wait(made, return_when=FIRST_EXCEPTION)
        finally:
            ended.set()
            wait([each for each in made if not each.cancel()])
        if failed:
            raise failed[0]
        return [cast(T, each.result()) for each in made]
