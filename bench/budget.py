"""What each step of a task's journey may ask of a service, and what of that is billed: the words.

The numbers are in `budget_queues` and `budget_stores`, and nowhere else: tests/contract/test_service_requests.py holds
the backends to them, and docs/cost.md is reckoned from them (`cost`). They are upper bounds where nobody collides and
nothing has to be repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Counts = Mapping[str, float]
POLL_S, REPORT_S, LOOK_AROUND_S, CLOSING_S = 3.0, 60.0, 30.0, 40.0
"""How often a node looks for work on the network, reports itself, looks at the others of its pool, and asks whether a
job with nothing for it is done (a third of the default lease)."""
LOOKED_AT = 16
"""Rows that the latter question reads at most."""
PENDING_BYTES, ENDED_BYTES, NODE_BYTES = 180, 650, 600
"""A task of one short value before and after its attempt, and a node, with all that DynamoDB counts of them."""
NODES_LOOKED_AT = 100
"""Nodes up to which each looks at all of them that often; from there on the more seldom, the more there are."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Requests by the service's own names for them, and what is billed, by the bill's."""

    requests: Counts = field(default_factory=dict)
    billed: Counts = field(default_factory=dict)

    def __add__(self, other: Ask) -> Ask:
        return Ask(_sum(self.requests, other.requests), _sum(self.billed, other.billed))

    def times(self, number: float) -> Ask:
        """The same so many times."""
        return Ask(
            {kind: number * each for kind, each in self.requests.items()},
            {kind: number * each for kind, each in self.billed.items()},
        )


class QueueBudget(Protocol):
    """A queue's."""

    def submit(self, tasks: int) -> Ask:
        """Trying the queue, looking for a job of that name, and writing all records of a job."""
        ...

    def claim(self, tasks: int) -> Ask:
        """One look for work, where one job is open, that ends with so many tasks claimed (0: none was due)."""
        ...

    def renew(self, tasks: int) -> Ask: ...
    def finish(self, tasks: int) -> Ask: ...

    def idle_look(self) -> Ask:
        """A look for work where no job is open."""
        ...

    def closing(self) -> Ask:
        """Asking whether an open job is done that is not."""
        ...

    def report(self) -> Ask:
        """A node's own row written again."""
        ...

    def look_around(self, nodes: int) -> Ask: ...

    def count(self, tasks: int, outcomes: int, row_bytes: int) -> Ask:
        """A tick of `status`; the tasks have so many different outcomes."""
        ...

    def listing(self, tasks: int, row_bytes: int) -> Ask: ...


class StoreBudget(Protocol):
    """A store's."""

    def submit(self, missing: int, already: int) -> Ask:
        """Trying the store, asking for files and documents, `already` there or `missing`, and sending the latter."""
        ...

    def stage_in(self, files: int) -> Ask:
        """On a node that has none of them: the job's specification, the list of the files, the files."""
        ...

    def publish(self, files: int) -> Ask:
        """What one attempt leaves: its output files, what it printed, its result document."""
        ...

    def segment(self) -> Ask:
        """A piece of what a task prints, sent while it runs."""
        ...

    def fetch(self, files: int) -> Ask:
        """The results of one task."""
        ...


def idle_hour(queue: QueueBudget, *, nodes: int = 1, open_jobs: int = 0) -> Ask:
    """A node with nothing to do, in a pool of so many nodes; each open job has nothing for it."""
    every_s = LOOK_AROUND_S * max(1.0, nodes / NODES_LOOKED_AT)
    hour = queue.report().times(3600 / REPORT_S) + queue.look_around(nodes).times(3600 / every_s)
    if not open_jobs:
        return hour + queue.idle_look().times(3600 / POLL_S)
    return hour + queue.claim(0).times(open_jobs * 3600 / POLL_S) + queue.closing().times(open_jobs * 3600 / CLOSING_S)


def _sum(one: Counts, other: Counts) -> Counts:
    total: Counter[str] = Counter()
    for counts in (one, other):
        for kind, number in counts.items():
            total[kind] += number  # type: ignore[assignment]
    return total
