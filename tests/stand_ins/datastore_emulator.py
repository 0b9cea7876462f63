"""A stand-in for Google's Datastore (Firestore in Datastore mode): the eight requests of the client library, over gRPC.

For tests only, because Google's own emulators cannot be installed from a package registry. It keeps to what Google
documents and is rather less obliging where the documentation leaves it open: a commit without a transaction is applied
in random order and may stop half way, long answers come in parts, queries that would need an index that nobody has made
are refused. It knows no permissions, no read of the past beyond what it keeps, and no queries that kubeq does not make.

It counts requests and what Google bills for them, and on demand answers with errors (before or after having applied the
request), with answers of the past, or late. `python -m tests.stand_ins.datastore_emulator` runs one by itself.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from google.cloud.datastore_v1.types import datastore as requests

from tests.stand_ins.datastore_commits import REQUEST_BYTES, Commits, Transactions
from tests.stand_ins.datastore_reads import Reads
from tests.stand_ins.datastore_storage import Storage
from tests.stand_ins.datastore_values import Message, Refused

SERVICE = "google.datastore.v1.Datastore"
_MODE = requests.CommitRequest.Mode


@dataclass(slots=True)
class Fault:
    """An error that requests of one kind are answered with."""

    kind: str
    code: grpc.StatusCode
    applied: bool
    skip: int
    times: int
    message: str

    def strikes(self, kind: str, applied: bool) -> bool:
        """Whether it is this request's turn; then it counts as done."""
        if kind != self.kind or applied != self.applied or self.times <= 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class DatastoreEmulator:
    """A Datastore of this process, which any process on this machine can use."""

    def __init__(self, storage: Storage | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """Requests, by their kind."""
        self.billed: Counter[str] = Counter()
        """Entity `reads`, `writes`, `deletes`, and `small` operations."""
        self.delay_s = 0.0
        self._storage = storage or Storage()
        self._transactions = Transactions(self._storage)
        self._commits = Commits(self._storage, self._transactions)
        self.reads = Reads(self._storage, self._transactions, self.billed)
        self._lock = threading.RLock()
        self._faults: list[Fault] = []
        self._watched: list[tuple[str, Message]] | None = None
        self._server: grpc.Server | None = None
        self.port = 0

    # -- running ------------------------------------------------------------------------------------------------------

    def start(self, port: int = 0) -> None:
        """Listen at this machine alone; port 0: one that is free."""
        limit = ("grpc.max_receive_message_length", 2 * REQUEST_BYTES)
        self._server = grpc.server(ThreadPoolExecutor(32), options=[limit, ("grpc.so_reuseport", 0)])
        kinds: dict[str, Callable[[Message], Message]] = {
            "Lookup": self._locked(self.reads.lookup),
            "RunQuery": self._locked(self.reads.query),
            "RunAggregationQuery": self._locked(self.reads.count),
            "BeginTransaction": self._begin_transaction,
            "Commit": self._commit,
            "Rollback": self._rollback,
            "AllocateIds": self._allocate_ids,
            "ReserveIds": self._reserve_ids,
        }
        methods = {kind: self._handler(kind, handle) for kind, handle in kinds.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self) -> None:
        """Return when nobody is served any more."""
        if self._server is not None:
            self._server.stop(None).wait()

    @property
    def environment(self) -> Mapping[str, str]:
        """What sends the client library here."""
        return {"DATASTORE_EMULATOR_HOST": f"127.0.0.1:{self.port}"}

    # -- faults and looking on ----------------------------------------------------------------------------------------

    def fail(
        self,
        kind: str,
        code: grpc.StatusCode,
        *,
        applied: bool = False,
        skip: int = 0,
        times: int = 1,
        message: str = "injected",
    ) -> None:
        """Answer the next `times` requests of that kind, after `skip` more, with an error; `applied`: the request is
        carried out all the same, only its answer is lost."""
        self._faults.append(Fault(kind, code, applied, skip, times, message))

    def mend(self) -> None:
        """No more errors."""
        self._faults.clear()

    @contextmanager
    def recorded(self) -> Iterator[list[tuple[str, Message]]]:
        """The requests that come while the block runs, with their kinds."""
        watched: list[tuple[str, Message]] = []
        self._watched = watched
        try:
            yield watched
        finally:
            self._watched = None

    @contextmanager
    def frozen(self, property_name: str) -> Iterator[None]:
        """While the block runs, queries along that property's index see everything as it is now."""
        with self._lock:
            self.reads.frozen[property_name] = self._storage.tick()
        try:
            yield
        finally:
            del self.reads.frozen[property_name]

    def _locked(self, handle: Callable[[Message], Message]) -> Callable[[Message], Message]:
        def one_at_a_time(request: Message) -> Message:
            with self._lock:
                return handle(request)

        return one_at_a_time

    def _handler(self, kind: str, handle: Callable[[Message], Message]) -> grpc.RpcMethodHandler[Message, Message]:
        def respond(request: Message, context: grpc.ServicerContext) -> Message:
            self.counts[kind] += 1
            if self._watched is not None:
                self._watched.append((kind, request))
            if self.delay_s:
                time.sleep(self.delay_s)
            self._strike(kind, context, applied=False)
            try:
                response = handle(request)
            except Refused as refusal:
                context.abort(refusal.code, refusal.message)
            self._strike(kind, context, applied=True)
            return response

        of_request, of_response = getattr(requests, f"{kind}Request").pb(), getattr(requests, f"{kind}Response").pb()
        return grpc.unary_unary_rpc_method_handler(
            respond, request_deserializer=of_request.FromString, response_serializer=of_response.SerializeToString
        )

    def _strike(self, kind: str, context: grpc.ServicerContext, *, applied: bool) -> None:
        with self._lock:
            fault = next((each for each in self._faults if each.strikes(kind, applied)), None)
        if fault is not None:
            context.abort(fault.code, fault.message)

    # -- transactions and commits --------------------------------------------------------------------------------------

    def _begin_transaction(self, request: Message) -> Message:
        with self._lock:
            name = self._transactions.begin(request.transaction_options)
        return requests.BeginTransactionResponse.pb()(transaction=name)

    def _rollback(self, request: Message) -> Message:
        with self._lock:
            self._transactions.end(request.transaction)
        return requests.RollbackResponse.pb()()

    def _commit(self, request: Message) -> Message:
        with self._lock:
            self._commits.check(request)
            if request.mode == _MODE.TRANSACTIONAL:
                response = self._commits.transactional(request)
                self._bill_writes(request)
                return response
            steps = self._commits.one_by_one(request)
            response = next(steps, None)
        while response is None:
            with self._lock:
                response = next(steps)
        self._bill_writes(request)
        return response

    def _bill_writes(self, request: Message) -> None:
        for mutation in request.mutations:
            self.billed["deletes" if mutation.WhichOneof("operation") == "delete" else "writes"] += 1

    def _allocate_ids(self, request: Message) -> Message:
        response = requests.AllocateIdsResponse.pb()()
        with self._lock:
            response.keys.extend(self._commits.allocate(key) for key in request.keys)
        return response

    def _reserve_ids(self, request: Message) -> Message:
        """Numbers are given out from far above what anybody would reserve."""
        return requests.ReserveIdsResponse.pb()()


def main() -> None:
    """Serve until killed; the first line of output says what to put into the environment."""
    emulator = DatastoreEmulator()
    emulator.start()
    print(" ".join(f"{name}={value}" for name, value in emulator.environment.items()), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
