"""Several store requests at once, in threads. What they are is none of its business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from kubeq.core.model import Reach

T = TypeVar("T")

THREADS = 8
"""Enough to hash on all cores of a small machine while other files wait for the disk."""
NETWORK_THREADS = 32
"""For small objects at answers of 40 ms: measured, 8 threads put 180 a second, 16 350, and 32 650, most of what a
client in Python can do on one core."""


def threads_for(reach: Reach) -> int:
    """How many requests to make at once of a store of that reach."""
    return THREADS if reach is Reach.HOST else NETWORK_THREADS


def run_parallel(calls: Sequence[Callable[[], T]], threads: int = THREADS) -> list[T]:
    """What the calls answer, in their order. After the first error no further call is begun, and it is raised."""
    if min(len(calls), threads) <= 1:
        return [call() for call in calls]
    executor = ThreadPoolExecutor(min(len(calls), threads), thread_name_prefix="transfer")
    try:
        futures = [executor.submit(call) for call in calls]
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
        return [future.result() for future in futures]
    finally:
        executor.shutdown(cancel_futures=True)
