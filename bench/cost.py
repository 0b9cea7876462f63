"""What a job of a million tasks costs in requests, reckoned from the budgets; `python -m bench.cost` prints the table.

docs/cost.md holds the same table, and a test holds the two together. Machines, storage by the month and traffic out of
the cloud are not in it: they are the same whatever submits the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.budget import ENDED_BYTES, Ask, QueueBudget, StoreBudget, idle_hour
from bench.budget_queues import Datastore, DynamoDb
from bench.budget_stores import CLOUD_STORAGE, S3

TASKS = 1_000_000
RUN_S, RENEWED_S = 60.0, 40.0
"""How long a task runs, and a third of the default lease."""
COLD_NODES = 100
OUTCOMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A queue, a store, and dollars for one of everything that they bill; docs/cost.md says where those are from."""

    name: str
    queue: QueueBudget
    store: StoreBudget
    prices: Mapping[str, float]

    def dollars(self, ask: Ask) -> float:
        """What the service bills for it. Raises KeyError for something that has no price."""
        return sum(number * self.prices[kind] for kind, number in ask.billed.items())


CLOUDS = (
    Cloud(
        name="S3 and DynamoDB",
        queue=DynamoDb(),
        store=S3,
        prices={"write": 0.625e-6, "read": 0.125e-6, "PUT, LIST": 0.005e-3, "GET, HEAD": 0.0004e-3},
    ),
    Cloud(
        name="Cloud Storage and Datastore",
        queue=Datastore(),
        store=CLOUD_STORAGE,
        prices={"reads": 0.03e-5, "writes": 0.09e-5, "class A": 0.005e-3, "class B": 0.0004e-3},
    ),
)


def steps(cloud: Cloud) -> Iterator[tuple[str, float]]:
    """What is done, and its dollars."""
    queue, store = cloud.queue, cloud.store
    for what, ask in (
        ("submit 1,000,000 tasks with one input file", queue.submit(TASKS) + store.submit(3, 0)),
        ("claim them one at a time", queue.claim(1).times(TASKS)),
        (
            f"renew them every {RENEWED_S:.0f} s for {RUN_S:.0f} s",
            queue.renew(1).times(TASKS * (RUN_S // RENEWED_S)),
        ),
        (f"fetch the input on {COLD_NODES} cold nodes", store.stage_in(1).times(COLD_NODES)),
        ("store one output file, stdout and the result document of each", store.publish(1).times(TASKS)),
        ("record the outcomes", queue.finish(1).times(TASKS)),
        ("fetch all results once", queue.listing(TASKS, ENDED_BYTES) + store.fetch(1).times(TASKS)),
        ("one `status` of the whole job", queue.count(TASKS, OUTCOMES, ENDED_BYTES)),
        ("one hour of one idle node", idle_hour(queue)),
        ("one hour of one idle node beside an open job", idle_hour(queue, open_jobs=1)),
        ("live output: one piece every 3 s of a minute, of each task", store.segment().times(TASKS * RUN_S / 3)),
    ):
        yield what, cloud.dollars(ask)


def table() -> str:
    """The table of docs/cost.md."""
    head = f"| what | {' | '.join(cloud.name for cloud in CLOUDS)} |\n|---|{'---:|' * len(CLOUDS)}\n"
    rows = zip(*(steps(cloud) for cloud in CLOUDS), strict=True)
    return head + "".join(f"| {row[0][0]} | {' | '.join(_shown(each[1]) for each in row)} |\n" for row in rows)


def _shown(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 0.1 else f"${dollars:.5f}" if dollars >= 0.00001 else "$0"


if __name__ == "__main__":
    print(table(), end="")
