"""What each step may ask of each kind of queue; see `budget`."""

from __future__ import annotations

from math import ceil

from bench.budget import ENDED_BYTES, LOOKED_AT, NODE_BYTES, PENDING_BYTES, Ask


class DynamoDb:
    """In write units of 1 KB and read units of 4 KB; see `kubeq.queue.dynamodb`."""

    shards, page_bytes, batch = 8, 2**20, 1_000

    def submit(self, tasks: int) -> Ask:
        return Ask({"PutItem": tasks + 3, "Query": 2}, {"write": 2 * tasks + 4, "read": 0.5 + 1})

    def claim(self, tasks: int) -> Ask:
        seen = tasks + 2  # the one more that says whether there are more, at both levels
        return Ask(
            {"Query": 1 + self.shards, "PutItem": tasks},
            {"read": 0.5 + self._read(seen, PENDING_BYTES) / 2, "write": 3 * tasks},
        )

    def renew(self, tasks: int) -> Ask:
        return Ask({"PutItem": tasks}, {"write": 3 * tasks})

    def finish(self, tasks: int) -> Ask:
        return Ask({"PutItem": tasks}, {"write": 2 * tasks})

    def idle_look(self) -> Ask:
        return Ask({"Query": 1}, {"read": 0.5})

    def closing(self) -> Ask:
        return Ask({"Query": self.shards, "BatchGetItem": 1}, {"read": self._read(LOOKED_AT, ENDED_BYTES) / 2 + 1})

    def report(self) -> Ask:
        return Ask({"BatchGetItem": 1, "PutItem": 1}, {"read": 1, "write": 1})

    def look_around(self, nodes: int) -> Ask:
        size = nodes * NODE_BYTES
        return Ask({"Query": ceil(size / self.page_bytes)}, {"read": max(1, ceil(size / 4096))})

    def count(self, tasks: int, outcomes: int, row_bytes: int) -> Ask:
        return Ask({"Query": self._pages(tasks, row_bytes)}, {"read": self._read(tasks, row_bytes) / 2})

    def listing(self, tasks: int, row_bytes: int) -> Ask:
        pages = ceil(tasks / self.batch)
        return Ask({"Query": 2 * self.shards * pages}, {"read": self._read(tasks, row_bytes) + 2 * self.shards * pages})

    def _pages(self, tasks: int, row_bytes: int) -> int:
        return self.shards * max(1, ceil(tasks * row_bytes / self.shards / self.page_bytes))

    def _read(self, rows: int, row_bytes: int) -> int:
        """Consistent read units of rows spread over all shards, of which none is asked in vain for nothing."""
        return self.shards * max(1, ceil(1.15 * rows * row_bytes / self.shards / 4096))


class Datastore:
    """In entities read and written; see `kubeq.queue.datastore`."""

    shards, commit, lookup, batch = 8, 500, 1_000, 4_000

    def submit(self, tasks: int) -> Ask:
        return Ask({"RunQuery": 2, "Commit": 2 + ceil(tasks / self.commit)}, {"reads": 2, "writes": tasks + 3})

    def claim(self, tasks: int) -> Ask:
        queries = {"RunQuery": 1 + self.shards}
        if not tasks:
            return Ask(queries, {"reads": 1 + self.shards})
        seen = tasks + 1  # and the one more that says whether there are more
        return Ask(
            {**queries, "Lookup": 1, "Commit": ceil(tasks / self.commit)},
            {"reads": 1 + self.shards + seen, "writes": tasks},
        )

    def renew(self, tasks: int) -> Ask:
        return Ask({"Commit": ceil(tasks / self.commit)}, {"writes": tasks})

    def finish(self, tasks: int) -> Ask:
        return self.renew(tasks)

    def idle_look(self) -> Ask:
        return Ask({"RunQuery": 1}, {"reads": 1})

    def closing(self) -> Ask:
        return Ask({"RunQuery": self.shards, "Lookup": 2}, {"reads": self.shards + LOOKED_AT + 1})

    def report(self) -> Ask:
        return Ask({"Lookup": 1, "Commit": 1}, {"reads": 1, "writes": 1})

    def look_around(self, nodes: int) -> Ask:
        return Ask({"RunQuery": 1}, {"reads": max(1, nodes)})

    def count(self, tasks: int, outcomes: int, row_bytes: int) -> Ask:
        counted = sum(max(1, ceil(tasks / outcomes / 1_000)) for _ in range(outcomes))
        return Ask({"RunQuery": outcomes + 1, "RunAggregationQuery": outcomes}, {"reads": outcomes + 1 + counted + 1})

    def listing(self, tasks: int, row_bytes: int) -> Ask:
        pages = ceil(tasks / self.batch)
        return Ask(
            {"RunQuery": self.shards * pages, "Lookup": ceil(tasks / self.lookup)},
            {"reads": tasks + self.shards * pages},
        )


class Sqlite:
    """Transactions, which nobody bills."""

    batch = 10_000

    def submit(self, tasks: int) -> Ask:
        return Ask({"read": 1, "write": 2 + ceil(tasks / self.batch)})

    def claim(self, tasks: int) -> Ask:
        return Ask({"read": 2, "write": min(tasks, 1)})

    def renew(self, tasks: int) -> Ask:
        return Ask({"write": 1})

    def finish(self, tasks: int) -> Ask:
        return Ask({"write": 1})

    def idle_look(self) -> Ask:
        return Ask({"read": 1})

    def closing(self) -> Ask:
        return Ask({"read": 2})

    def report(self) -> Ask:
        return Ask({"read": 1, "write": 1})

    def look_around(self, nodes: int) -> Ask:
        return Ask({"read": ceil(nodes / self.batch)})

    def count(self, tasks: int, outcomes: int, row_bytes: int) -> Ask:
        return Ask({"read": 1})

    def listing(self, tasks: int, row_bytes: int) -> Ask:
        return Ask({"read": ceil(tasks / self.batch)})
