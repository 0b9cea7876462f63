"""A relay in this process, over tables and stores of the test's choice, and what nodes behind it get."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kubeq.core.clock import Clock, SystemClock
from kubeq.core.model import NodeName, PoolId, Reach
from kubeq.queue.base import RecordTable
from kubeq.queue.relay import RelayClaims
from kubeq.relay.admissions import Admissions, Backplane, Guest
from kubeq.relay.server import RelayServer
from kubeq.relay.service import Relay
from kubeq.relay_client import RelayClient
from kubeq.relay_wire import Address, Token
from kubeq.sockets import connected
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.keys import check_key
from kubeq.store.relay import RelayStore

POOL = PoolId("p")
BACKPLANE = Backplane(queue_url="the queue", store_url="the store", blobs_url="the store")


class Served:
    """A relay that listens on a socket below the folder, served by threads of this process."""

    def __init__(self, folder: Path, table: RecordTable, store: ObjectStore, clock: Clock | None = None) -> None:
        self.folder = folder
        self.clock = clock or SystemClock()
        self.admissions = Admissions(folder / "guests")
        self._table, self._store = table, store
        self._numbers = 0
        self.socket = folder / "socket"
        self.address = Address(path=self.socket)
        self._server: RelayServer | None = None

    def start(self) -> None:
        """As a relay starts: knowing nothing but its admissions."""
        relay = Relay(self.admissions, self.clock, table=lambda url: self._table, store=lambda url: self._store)
        self.relay = relay
        self._server = RelayServer(self.socket, relay)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """As a relay ends: whatever is under way is cut off."""
        assert self._server is not None
        self._server.shutdown()
        self._server.close_all()

    def admit(self, node: str, pool: PoolId = POOL, place: str = "") -> Token:
        self._numbers += 1
        guest = Guest(
            node=NodeName(node),
            pool=pool,
            number=self._numbers,
            provider="test",
            place=place or node,
            backplane=BACKPLANE,
        )
        return self.admissions.admit(guest, now=self.clock.now())

    def client(self, token: Token, address: Address | None = None) -> RelayClient:
        return RelayClient(address or self.address, token)

    def claims(self, token: Token, address: Address | None = None) -> RelayClaims:
        return RelayClaims(self.client(token, address), self.clock)

    def store(self, token: Token, address: Address | None = None) -> RelayStore:
        return RelayStore(self.client(token, address))


@contextmanager
def served(folder: Path, table: RecordTable, store: ObjectStore, clock: Clock | None = None) -> Iterator[Served]:
    """A running relay."""
    one = Served(folder, table, store, clock)
    one.start()
    try:
        yield one
    finally:
        one.stop()


class Tunnel:
    """A port of this machine at whose other end is a relay's socket, as with SSH; it breaks when the test says.

    `faults` are for the next requests, in order: "before" (cut when it comes, nothing of it arrives), "half" (the relay
    gets half of it), "after" (cut when the relay answers), "half answer"; None is none.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address(host="127.0.0.1", port=self._listener.getsockname()[1])
        self.faults: deque[str | None] = deque()
        self._open: set[socket.socket] = set()
        self._up = True
        threading.Thread(target=self._accept, daemon=True).start()

    def down(self) -> None:
        """Every connection ends, and new ones end at once."""
        self._up = False
        for one in list(self._open):
            _end(one)

    def up(self) -> None:
        self._up = True

    def close(self) -> None:
        self._up = False
        _end(self._listener)
        self._listener.close()
        self.down()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        try:
            with near, connected(self._target, 5.0) as far:
                far.settimeout(None)
                self._open |= {near, far}
                back: deque[str | None] = deque()
                answering = threading.Thread(target=self._carry_back, args=(far, near, back), daemon=True)
                answering.start()
                self._carry_there(near, far, back)
                answering.join()
                self._open -= {near, far}
        except OSError:
            pass

    def _carry_there(self, near: socket.socket, far: socket.socket, back: deque[str | None]) -> None:
        begun = False
        while self._up and (piece := _received(near)):
            fault = None
            if not begun or piece.startswith((b"POST ", b"GET ", b"PUT ")):
                begun, fault = True, self.faults.popleft() if self.faults else None
                back.append(fault if fault in ("after", "half answer") else None)
            if fault == "before":
                break
            if fault == "half":
                far.sendall(piece[: len(piece) // 2])
                break
            far.sendall(piece)
        _end(far)
        _end(near)

    def _carry_back(self, far: socket.socket, near: socket.socket, back: deque[str | None]) -> None:
        while self._up and (piece := _received(far)):
            fault = back.popleft() if back and piece.startswith(b"HTTP/") else None
            if fault == "after":
                break
            if fault == "half answer":
                near.sendall(piece[: len(piece) // 2])
                break
            near.sendall(piece)
        _end(near)
        _end(far)


def _received(one: socket.socket) -> bytes:
    try:
        return one.recv(65536)
    except OSError:
        return b""


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


class Below:
    """The part of a store below a prefix, as a store of its own."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    @property
    def reach(self) -> Reach:
        return self._store.reach

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def requests(self) -> Mapping[str, int]:
        return self._store.requests

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        return self._store.put(self._key(key), open, size, sha256)

    def batch(self) -> AbstractContextManager[ObjectStore]:
        return self._inside()

    @contextmanager
    def _inside(self) -> Iterator[ObjectStore]:
        with self._store.batch() as store:
            yield Below(store, self._prefix)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        return self._store.get(self._key(key), start)

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        sizes = self._store.stat([self._key(key) for key in keys])
        return {key.removeprefix(self._prefix): size for key, size in sizes.items()}

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        if prefix == "tmp" or prefix.startswith("tmp/"):
            return iter(())  # reserved at the root of a store, which this stands for
        found = self._store.list(self._prefix + prefix, self._prefix + after if after else "")
        return (Stored(stored.key.removeprefix(self._prefix), stored.size) for stored in found)

    def delete(self, keys: Sequence[str]) -> None:
        self._store.delete([self._key(key) for key in keys])

    def _key(self, key: str) -> str:
        check_key(key)
        return self._prefix + key
