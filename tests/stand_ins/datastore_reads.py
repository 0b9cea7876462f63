"""Lookups, queries and counts of the Datastore emulator: at which version they read, what they cost, what they leave
for a transaction's commit to look at again. Not safe to use from several threads: the emulator has a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from google.cloud.datastore_v1.types import datastore as requests
from google.cloud.datastore_v1.types import query as queries

from tests.stand_ins.datastore_commits import Ask, Transaction, Transactions
from tests.stand_ins.datastore_queries import BATCH, Match, Plan, answer, matches, plan
from tests.stand_ins.datastore_storage import Storage
from tests.stand_ins.datastore_values import Message, Place, Scope, invalid, key_at, place_of, scope_of, unimplemented

LOOKUP_KEYS = 1_000
"""https://cloud.google.com/datastore/docs/concepts/limits (May 2026)."""
LOOKUP_BYTES = 1024 * 1024
"""In one answer to a Lookup; the rest is deferred. The service names no number."""
ENTRIES_A_READ = 1_000
"""Of an aggregation, for the price of one entity: https://cloud.google.com/datastore/docs/aggregation-queries."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One read: at a version, within a transaction or not."""

    version: int
    transaction: Transaction | None

    def remember(self, question: Ask) -> None:
        """Leave a question for the commit; nothing to do outside of a transaction."""
        if self.transaction is not None:
            self.transaction.ask(question)


class Reads:
    """Answers from one storage."""

    def __init__(self, storage: Storage, transactions: Transactions, billed: Counter[str]) -> None:
        self._storage = storage
        self._transactions = transactions
        self._billed = billed
        self.batch = BATCH
        self.lookup_bytes = LOOKUP_BYTES
        self.frozen: dict[str, int] = {}
        """Properties whose indexes answer as of a version."""

    def lookup(self, request: Message) -> Message:
        """The entities, those that are missing, and those that the answer has no room for."""
        if len(request.keys) > LOOKUP_KEYS:
            raise invalid(f"cannot get more than {LOOKUP_KEYS} keys in a single call")
        response = requests.LookupResponse.pb()()
        read = self._reading(request.read_options, response)
        filled = 0
        for place in dict.fromkeys(place_of(key, request) for key in request.keys):
            if filled > self.lookup_bytes:
                response.deferred.append(key_at(place))
                continue
            self._billed["reads"] += 1
            read.remember(lambda version, place=place: self._number(place, version))  # type: ignore[misc]
            filled += self._add_looked_up(place, read.version, response)
        response.read_time.FromMicroseconds(read.version)
        return response

    def query(self, request: Message) -> Message:
        """One batch of results."""
        if request.WhichOneof("query_type") != "query":
            raise unimplemented("GQL")
        response = requests.RunQueryResponse.pb()()
        read = self._reading(request.read_options, response)
        scope, planned = scope_of(request.partition_id, request), plan(request.query, request)
        version = self.frozen.get(planned.index, read.version)
        batch, sent = answer(matches(self._storage, scope, planned, version), planned, self.batch)
        read.remember(lambda then: self._seen(scope, planned, then, len(sent)))
        self._bill(planned, len(sent))
        batch.read_time.FromMicroseconds(version)
        response.batch.CopyFrom(batch)
        return response

    def count(self, request: Message) -> Message:
        """How many a query finds."""
        asked = request.aggregation_query
        if request.WhichOneof("query_type") != "aggregation_query":
            raise unimplemented("GQL")
        if any(each.WhichOneof("operator") != "count" for each in asked.aggregations):
            raise unimplemented("aggregations but count")
        response = requests.RunAggregationQueryResponse.pb()()
        read = self._reading(request.read_options, response)
        scope, planned = scope_of(request.partition_id, request), plan(asked.nested_query, request)
        total = self._total(scope, planned, read.version)
        read.remember(lambda version: self._total(scope, planned, version))
        self._billed["reads"] += max(1, -(-total // ENTRIES_A_READ))
        result = response.batch.aggregation_results.add()
        for number, each in enumerate(asked.aggregations, 1):
            counted = min(total, each.count.up_to.value) if each.count.HasField("up_to") else total
            result.aggregate_properties[each.alias or f"property_{number}"].integer_value = counted
        response.batch.more_results = queries.QueryResultBatch.MoreResultsType.NO_MORE_RESULTS
        response.batch.read_time.FromMicroseconds(read.version)
        return response

    def _reading(self, options: Message, response: Message) -> _Read:
        """At which version to read: the transaction's, the one that was asked for, or now."""
        match options.WhichOneof("consistency_type"):
            case "transaction":
                transaction = self._transactions.find(options.transaction)
                return _Read(transaction.version, transaction)
            case "new_transaction":
                response.transaction = self._transactions.begin(options.new_transaction)
                transaction = self._transactions.find(response.transaction)
                return _Read(transaction.version, transaction)
            case "read_time":
                return _Read(options.read_time.ToMicroseconds(), None)
        return _Read(self._storage.tick(), None)

    def _add_looked_up(self, place: Place, version: int, response: Message) -> int:
        """The bytes that it takes in the answer."""
        found = self._storage.at(place, version)
        if found is None:
            missing = response.missing.add(version=version)
            missing.entity.key.CopyFrom(key_at(place))
            return int(missing.ByteSize())
        result = response.found.add(version=found.number)
        result.entity.CopyFrom(found.entity)
        result.create_time.FromMicroseconds(found.created)
        result.update_time.FromMicroseconds(found.number)
        return int(result.ByteSize())

    def _number(self, place: Place, version: int | None) -> int:
        found = self._storage.at(place, version)
        return 0 if found is None else found.number

    def _seen(self, scope: Scope, planned: Plan, version: int | None, length: int) -> list[Any]:
        """What a query's answer rests on; one result more than was sent, so that a new one behind them is noticed."""
        found = matches(self._storage, scope, planned, version)
        return [
            (each.place, each.version.number) for each in islice(found, planned.offset, planned.offset + length + 1)
        ]

    def _total(self, scope: Scope, planned: Plan, version: int | None) -> int:
        found: Iterator[Match] = matches(self._storage, scope, planned, version)
        end = None if planned.limit is None else planned.offset + planned.limit
        return sum(1 for _ in islice(found, planned.offset, end))

    def _bill(self, planned: Plan, length: int) -> None:
        """As https://cloud.google.com/datastore/pricing: without entities, a query is one read whatever it finds."""
        if planned.projected:
            self._billed.update(reads=1, small=length)
        else:
            self._billed["reads"] += max(1, length)
