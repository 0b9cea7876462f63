"""Transactions and commits of the Datastore emulator: optimistic, with an honest second look at all that was read.

A transaction reads one snapshot. Its commit asks all its questions once more and is aborted if any answer has changed,
so neither lost updates nor write skew nor phantoms are possible. A commit without a transaction is what the service
promises of it and no more: each mutation by itself, in any order, and an error may leave some of them applied.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from secrets import token_bytes
from typing import Any

import grpc
from google.cloud.datastore_v1.types import datastore as requests

from tests.stand_ins.datastore_storage import Storage
from tests.stand_ins.datastore_values import Entity, Message, Place, Refused, check_entity, invalid, key_at, place_of

MUTATIONS = 500
"""In one commit: the service's limit until 2023, which its documentation no longer names. Rather too strict here."""
REQUEST_BYTES = 10 * 1024 * 1024
"""A request and a transaction: https://cloud.google.com/datastore/docs/concepts/limits (May 2026)."""
IDLE_S = 60.0
EXPIRES_S = 270.0
"""https://cloud.google.com/datastore/docs/concepts/transactions (May 2026)."""
Ask = Callable[["int | None"], Any]
"""A question to the storage, as of a version or of now; the same answer twice means that nothing has changed."""
_Mutation = requests.Mutation.ConflictResolutionStrategy
_FORBIDDEN = {("insert", "insert"), ("update", "insert"), ("upsert", "insert"), ("delete", "update")}
"""Of one entity, in that order, in one transaction."""


@dataclass(slots=True)
class Transaction:
    """What a client has read at one version."""

    version: int
    read_only: bool
    began: float
    used: float
    asked: list[tuple[Ask, Any]] = field(default_factory=list)

    def ask(self, question: Ask) -> Any:
        """The answer as of the transaction's snapshot, remembered for the commit."""
        reply = question(self.version)
        if not self.read_only:
            self.asked.append((question, reply))
        return reply


class Transactions:
    """Those that are open."""

    def __init__(self, storage: Storage, now: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._now = now
        self._open: dict[bytes, Transaction] = {}

    def begin(self, options: Message) -> bytes:
        """A new one's name."""
        name = token_bytes(16)
        now = self._now()
        read_only = options.WhichOneof("mode") == "read_only"
        self._open[name] = Transaction(self._storage.tick(), read_only, now, now)
        return name

    def find(self, name: bytes) -> Transaction:
        """An open one; refuses those that are done or have expired."""
        found, now = self._open.get(name), self._now()
        if found is None or now - found.used > IDLE_S or now - found.began > EXPIRES_S:
            self._open.pop(name, None)
            raise invalid("The referenced transaction has expired or is no longer valid.")
        found.used = now
        return found

    def end(self, name: bytes) -> None:
        self._open.pop(name, None)


class Commits:
    """Applies mutations to a storage."""

    def __init__(self, storage: Storage, transactions: Transactions, seed: int = 0) -> None:
        self._storage = storage
        self._transactions = transactions
        self._random = random.Random(seed)
        self._numbers = count(5_000_000_000_000_001)

    def allocate(self, key: Message) -> Message:
        """The key, completed by a number if it has none."""
        if key.path and key.path[-1].WhichOneof("id_type") is None:
            key.path[-1].id = next(self._numbers)
        return key

    def transactional(self, request: Message) -> Message:
        """All of the mutations or, with an error, none."""
        name = request.transaction
        if request.WhichOneof("transaction_selector") == "single_use_transaction":
            name = self._transactions.begin(request.single_use_transaction)
        transaction = self._transactions.find(name)
        self._transactions.end(name)
        if transaction.read_only and request.mutations:
            raise invalid("Cannot modify entities in a read-only transaction.")
        if any(question(None) != reply for question, reply in transaction.asked):
            raise _contention()
        _check_sequences([(self._place(mutation, request), mutation) for mutation in request.mutations])
        for mutation in request.mutations:
            self._require_applicable(mutation, request, list(request.mutations))
        response = requests.CommitResponse.pb()()
        version = self._storage.tick()
        for mutation in request.mutations:
            self._apply(mutation, request, version, response.mutation_results.add())
        response.commit_time.FromMicroseconds(version)
        return response

    def one_by_one(self, request: Message) -> Iterator[Message | None]:
        """None before each mutation, when others may come in between; at last the response.

        The order is random, and the first that cannot be applied ends it: what came before stays.
        """
        places = [self._place(mutation, request) for mutation in request.mutations]
        if len(set(places)) < len(places):
            raise invalid("A non-transactional commit may not contain multiple mutations affecting the same entity.")
        response = requests.CommitResponse.pb()()
        for _ in request.mutations:
            response.mutation_results.add()
        for index in self._random.sample(range(len(places)), len(places)):
            yield None
            mutation = request.mutations[index]
            self._require_applicable(mutation, request, [])
            self._apply(mutation, request, self._storage.tick(), response.mutation_results[index])
        yield response

    def check(self, request: Message) -> None:
        """Refuse a request that is too much, and entities that cannot be stored."""
        if len(request.mutations) > MUTATIONS:
            raise invalid(f"cannot write more than {MUTATIONS} entities in a single call")
        if request.ByteSize() > REQUEST_BYTES:
            raise invalid(f"Request payload size exceeds the limit: {REQUEST_BYTES} bytes.")
        for mutation in request.mutations:
            operation = mutation.WhichOneof("operation")
            if operation in ("insert", "upsert"):
                self.allocate(getattr(mutation, operation).key)
            if operation != "delete":
                check_entity(getattr(mutation, operation))
            if operation == "insert" and mutation.base_version > 0:
                raise invalid("Cannot insert an entity with a base version greater than zero")

    def _place(self, mutation: Message, request: Message) -> Place:
        operation = mutation.WhichOneof("operation")
        thing = getattr(mutation, operation)
        return place_of(thing if operation == "delete" else thing.key, request)

    def _require_applicable(self, mutation: Message, request: Message, earlier: list[Message]) -> None:
        """Refuse what makes the whole commit fail. Mutations of the same commit may have made or removed the entity."""
        place, operation = self._place(mutation, request), mutation.WhichOneof("operation")
        exists = self._storage.at(place) is not None
        for each in earlier[: next((n for n, one in enumerate(earlier) if one is mutation), 0)]:
            if self._place(each, request) == place:
                exists = each.WhichOneof("operation") != "delete"
        if operation == "insert" and exists:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, "entity already exists")
        if operation == "update" and not exists:
            raise Refused(grpc.StatusCode.NOT_FOUND, "no entity to update")
        if mutation.conflict_resolution_strategy == _Mutation.FAIL and self._conflicts(mutation, place):
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the stored version ({self._standing(place)}) does not match the required base version "
                f"({mutation.base_version})",
            )

    def _apply(self, mutation: Message, request: Message, version: int, result: Message) -> None:
        place, operation = self._place(mutation, request), mutation.WhichOneof("operation")
        if self._conflicts(mutation, place):
            result.conflict_detected = True
            result.version = self._standing(place)
            return
        entity = None
        if operation != "delete":
            entity = Entity()
            entity.CopyFrom(getattr(mutation, operation))
            entity.key.CopyFrom(key_at(place))
            result.key.CopyFrom(entity.key)
        written = self._storage.write(place, entity, version)
        result.version = version
        if entity is not None:
            result.update_time.FromMicroseconds(version)
            result.create_time.FromMicroseconds(written.created)

    def _conflicts(self, mutation: Message, place: Place) -> bool:
        match mutation.WhichOneof("conflict_detection_strategy"):
            case "base_version":
                return bool(mutation.base_version != self._standing(place))
            case "update_time":
                return bool(mutation.update_time.ToMicroseconds() != self._standing(place))
        return False

    def _standing(self, place: Place) -> int:
        found = self._storage.at(place)
        return 0 if found is None else found.number


def _contention() -> Refused:
    return Refused(
        grpc.StatusCode.ABORTED,
        "Aborted due to cross-transaction contention. This occurs when multiple transactions attempt to access the "
        "same data, requiring Firestore to abort at least one in order to enforce serializability.",
    )


def _check_sequences(mutations: list[tuple[Place, Message]]) -> None:
    last: dict[Place, str] = {}
    for place, mutation in mutations:
        operation = mutation.WhichOneof("operation")
        if (last.get(place), operation) in _FORBIDDEN:
            raise invalid(f"{last[place]} followed by {operation} of the same entity in one transaction")
        last[place] = operation
