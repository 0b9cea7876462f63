"""The requests that a Datastore table makes: counted by kind, repeated while they fail for a moment, Google's errors
made ours. What they ask for is in `datastore_entities` and `datastore_queries`.

Google's client repeats nothing of itself here, so that each request is one that we decided to make and is counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import grpc
from google.api_core import exceptions as api
from google.cloud.datastore_v1.services.datastore import DatastoreClient
from google.cloud.datastore_v1.services.datastore.transports.grpc import DatastoreGrpcTransport
from google.cloud.datastore_v1.types import datastore as messages
from google.cloud.datastore_v1.types import query as queries

from kubeq.gcp import SCOPES, find_account, google_errors
from kubeq.metering import Meter
from kubeq.queue.datastore_entities import Message, Place, keys_of
from kubeq.queue.offset import ClockOffset
from kubeq.queue.patience import Patience
from kubeq.queue.side_by_side import SideBySide

T = TypeVar("T")
EMULATOR = "DATASTORE_EMULATOR_HOST"
"""By which Google's client library, and everything else, is sent to a stand-in."""
PARALLEL = 8
"""Requests of one call at the same time."""
LOOKUP_KEYS = 1_000
"""https://cloud.google.com/datastore/docs/concepts/limits (May 2026)."""
TIMEOUT_S = 10.0
"""For one answer; the service takes some 10 to 100 ms."""
COUNT_TIMEOUT_S = 60.0
"""The service itself gives a count no longer: https://cloud.google.com/datastore/docs/aggregation-queries."""
_CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # as Google's Bigtable client does: a connection that a firewall has dropped
    ("grpc.keepalive_timeout_ms", 10_000),  # is given up while the table still has patience
)
_LOST = (api.AlreadyExists, api.NotFound, api.FailedPrecondition, api.Aborted)
"""What a commit answers when one of its mutations has lost. It says neither which nor whether others were made."""
_NOT_FINISHED = queries.QueryResultBatch.MoreResultsType.NOT_FINISHED


class Found(NamedTuple):
    """What a query found, each an EntityResult, and as of when: a read of the same moment can be asked with it."""

    results: Sequence[Message]
    read_at: Message


class Requests:
    """Requests to one database. Safe to use from several threads; the connection is made with the first request."""

    def __init__(self, place: Place, meter: Meter, patience: Patience) -> None:
        self._place = place
        self._meter = meter
        self._patience = patience
        self._connecting = threading.Lock()
        self._client: DatastoreClient | None = None
        self._side_by_side = SideBySide(PARALLEL, "datastore")
        self.offset = ClockOffset()

    @property
    def _database(self) -> str:
        return f"the Datastore database {self._place.database or '(default)'} of the project {self._place.project}"

    def together(self, calls: Sequence[Callable[[], T]]) -> Sequence[T]:
        """The answers of all calls, made side by side; see SideBySide."""
        return self._side_by_side.run(calls)

    def lookup(self, names: Sequence[str]) -> Mapping[str, Message]:
        """Those of the entities that exist, by key name, each an EntityResult."""
        once = list(dict.fromkeys(names))
        parts = [once[start : start + LOOKUP_KEYS] for start in range(0, len(once), LOOKUP_KEYS)]
        found: dict[str, Message] = {}
        for part in self.together([partial(self._lookup, part) for part in parts]):
            found |= part
        return found

    def _lookup(self, names: Sequence[str]) -> Mapping[str, Message]:
        found: dict[str, Message] = {}
        keys = keys_of(names, self._place)
        while keys:
            request = messages.LookupRequest.pb()(keys=keys, **self._where())
            answer = self._ask("Lookup", request, f"read rows of {self._database}")
            found |= {result.entity.key.path[0].name: result for result in answer.found}
            keys = answer.deferred  # what the answer had no room for
        return found

    def query(self, query: Message, limit: int, read_at: Message | None = None) -> Found:
        """The first entities that the query finds, now or as of then; `limit` is at least 1."""
        results: list[Message] = []
        query.ClearField("start_cursor")
        while True:
            query.limit.value = limit - len(results)
            request = messages.RunQueryRequest.pb()(query=query, **self._where())
            _aim(request, self._place, read_at)
            batch = self._ask("RunQuery", request, f"list rows of {self._database}").batch
            results.extend(batch.entity_results)
            if batch.more_results != _NOT_FINISHED or len(results) >= limit:
                return Found(results, batch.read_time)
            query.start_cursor = batch.end_cursor

    def count(self, query: Message, read_at: Message) -> int:
        """How many entities the query finds as of then."""
        request = messages.RunAggregationQueryRequest.pb()(**self._where())
        request.aggregation_query.nested_query.CopyFrom(query)
        request.aggregation_query.aggregations.add(alias="rows").count.SetInParent()
        _aim(request, self._place, read_at)
        answer = self._ask("RunAggregationQuery", request, f"count rows of {self._database}")
        return int(answer.batch.aggregation_results[0].aggregate_properties["rows"].integer_value)

    def write(self, mutations: Sequence[Message]) -> Sequence[int] | None:
        """The server's new version of each entity; None: one mutation at least has lost, any other may have been made.

        Without a transaction each mutation is atomic by itself, and none waits for the locks of others.
        """
        answer = self._ask("Commit", self._commit(mutations), f"write rows to {self._database}", losing=_LOST)
        if answer is None or any(result.conflict_detected for result in answer.mutation_results):
            return None
        return [result.version for result in answer.mutation_results]

    def remove(self, mutations: Sequence[Message]) -> None:
        """Make mutations that cannot lose."""
        self._ask("Commit", self._commit(mutations), f"delete rows of {self._database}")

    def _commit(self, mutations: Sequence[Message]) -> Message:
        mode = messages.CommitRequest.Mode.NON_TRANSACTIONAL
        return messages.CommitRequest.pb()(mode=mode, mutations=mutations, **self._where())

    def _where(self) -> dict[str, str]:
        return {"project_id": self._place.project, "database_id": self._place.database}

    def _ask(self, kind: str, request: Message, doing: str, losing: tuple[type[Exception], ...] = ()) -> Message:
        """The answer, without the library's wrapping; None for an error of those that mean that something has lost."""
        send, timeout_s = _METHODS[kind]
        wrapped = getattr(messages, f"{kind}Request").wrap(request)

        def once() -> Message:
            client = self._connected()
            self._meter.count(kind)
            sent_at = time.time()
            with google_errors(doing, missing=self._database):
                try:
                    answer = send(client, request=wrapped, retry=None, timeout=timeout_s)
                except losing:
                    return None
            raw = type(answer).pb(answer)
            self._compare_clocks(request, raw, sent_at)
            return raw

        return self._patience.repeat(once, self._side_by_side.ended)

    def _compare_clocks(self, request: Message, answer: Message, sent_at: float) -> None:
        """Learn from an answer that tells when it read, as look-ups and queries do, unless it read the past."""
        options = getattr(request, "read_options", None)
        if options is not None and options.HasField("read_time"):
            return
        for told in (getattr(answer, "read_time", None), getattr(getattr(answer, "batch", None), "read_time", None)):
            if told is not None and told.seconds:
                then = told.seconds + told.nanos / 1e9
                self.offset.saw_time(then, then, sent_at=sent_at, received_at=time.time())

    def _connected(self) -> DatastoreClient:
        with self._connecting:
            if self._client is None:
                account = find_account(EMULATOR)
                if account.credentials is None:
                    channel = grpc.insecure_channel(os.environ[EMULATOR], options=_CHANNEL)
                else:
                    channel = DatastoreGrpcTransport.create_channel(
                        credentials=account.credentials, scopes=SCOPES, options=_CHANNEL
                    )
                self._client = DatastoreClient(transport=DatastoreGrpcTransport(channel=channel))
            return self._client


def _aim(request: Message, place: Place, read_at: Message | None) -> None:
    """Into the namespace; and at the moment, if one is given."""
    scope = request.partition_id
    scope.project_id, scope.namespace_id, scope.database_id = place
    if read_at is not None:
        request.read_options.read_time.CopyFrom(read_at)


_METHODS: Mapping[str, tuple[Callable[..., Any], float]] = {
    "Lookup": (DatastoreClient.lookup, TIMEOUT_S),
    "RunQuery": (DatastoreClient.run_query, TIMEOUT_S),
    "RunAggregationQuery": (DatastoreClient.run_aggregation_query, COUNT_TIMEOUT_S),
    "Commit": (DatastoreClient.commit, TIMEOUT_S),
}
