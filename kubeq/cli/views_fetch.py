"""How the answer of `fetch` looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeq.actions.fetch import Fetched, FetchedTask, MissingTask, index_list
from kubeq.cli.output import Output
from kubeq.cli.shown import count
from kubeq.core.quantities import format_size

REDRAW_S = 0.1


@dataclass(frozen=True, slots=True)
class FetchedView:
    """What is there now, and what is not and why."""

    fetched: Fetched

    def text(self) -> Iterable[str]:
        tasks = self.fetched.tasks
        new, files = sum(task.moved for task in tasks), sum(task.files for task in tasks)
        size = format_size(sum(task.bytes for task in tasks))
        there = f"{count(files, 'file')} of {count(len(tasks), 'task')} ({size})"
        yield f"{self.fetched.destination}: {there}{self._new(new, files)}"
        left = [task for task in tasks if task.not_stored]
        if left:
            names = count(sum(task.not_stored for task in left), "file")
            whose = f"{'task' if len(left) == 1 else 'tasks'} {index_list([task.index for task in left])}"
            show = f"kubeq show {self.fetched.job.id}/{left[0].index}"
            yield f"not stored: {names} of {whose}, as links and special files are not; {show} lists them"
        for index, error in self.fetched.refused:
            yield f"not fetched: task {index}: {error.message}"
        groups: dict[str, list[MissingTask]] = {}
        for task in self.fetched.missing:
            groups.setdefault(task.why, []).append(task)
        for why, missing in groups.items():
            indexes = index_list([task.index for task in missing])
            yield f"no results: {'task' if len(missing) == 1 else 'tasks'} {indexes}: {why}"

    def json(self) -> Mapping[str, Any]:
        moved = [task for task in self.fetched.tasks if task.new]
        return {
            "job": self.fetched.job.id,
            "destination": str(self.fetched.destination),
            "fetched": [
                {"index": task.index, "attempt": task.attempt, "files": task.files, "bytes": task.bytes}
                for task in moved
            ],
            "missing": [{"index": task.index, "state": task.state, "why": task.why} for task in self.fetched.missing],
            "skipped": [task.index for task in self.fetched.tasks if not task.new],
            "not_stored": [
                {"index": task.index, "files": task.not_stored} for task in self.fetched.tasks if task.not_stored
            ],
            "refused": [{"index": index, "why": error.message} for index, error in self.fetched.refused],
        }

    def quiet(self) -> Iterable[str]:
        return [f"{self.fetched.job.id}/{task.index}" for task in self.fetched.tasks]

    @staticmethod
    def _new(new: int, files: int) -> str:
        return "" if new == files else f", {new:,} of them new" if new else ", all of it there already"


class FetchProgress:
    """How many tasks are there, on a live line; told from several threads."""

    def __init__(self, output: Output, total: int) -> None:
        self._output = output
        self._total = total
        self._lock = threading.Lock()
        self._count = 0
        self._drawn_at = 0.0

    def there(self, task: FetchedTask) -> None:
        """One more is there."""
        with self._lock:
            self._count += 1
            now = time.monotonic()
            if self._output.live and now - self._drawn_at >= REDRAW_S:
                self._drawn_at = now
                self._output.draw(f"\r\x1b[2Kfetched {self._count:,} of {self._total:,}")

    def hide(self) -> None:
        """Take the live line away."""
        if self._drawn_at:
            self._output.draw("\r\x1b[2K")
