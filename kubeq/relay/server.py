"""The relay's socket, and how many may talk to it at a time."""

from __future__ import annotations

import logging
import resource
import socket
import socketserver
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from kubeq.core.model import NodeName
from kubeq.relay.exchange import Exchange
from kubeq.relay.service import Relay
from kubeq.sockets import short_name

log = logging.getLogger(__name__)
MOST_CONNECTIONS = 1000
DESCRIPTORS_A_CONNECTION = 8
"""Its own, an open object, and what SQLite opens for a thread (the file, its log, its index, a lock)."""
MOST_OF_A_NODE = 100
"""An agent's two clients make 32 requests at a time each, and keep a few connections that have gone stale."""
MOST_STRANGERS = 16
"""Connections from one place that have not shown a token yet."""
SOCKET = "socket"


class RelayServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves a relay on a Unix socket, and on whatever else `take` is given. One thread a connection, bounded."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: Path, relay: Relay) -> None:
        """Binds and listens. Raises OSError; a socket that stands there already is one of the reasons."""
        self.relay = relay
        self._path = path
        self._most = min(MOST_CONNECTIONS, _open_files() // DESCRIPTORS_A_CONNECTION)
        self._lock = threading.Lock()
        self._origins: dict[int, tuple[Any, str]] = {}
        self._nodes: dict[int, NodeName] = {}
        super().__init__(str(path), Exchange)

    def server_bind(self) -> None:
        """At the path, however long it is."""
        with short_name(self._path) as name:
            self.socket.bind(name)

    def take(self, connection: Any, origin: str) -> None:
        """Serve a connection that came from there (the end of a tunnel, say), in a thread of its own."""
        self.process_request(connection, origin)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if there is room; else the caller is turned away."""
        origin = client_address or SOCKET
        with self._lock:
            strangers = Counter(place for key, (_, place) in self._origins.items() if key not in self._nodes)
            full = len(self._origins) >= self._most or strangers[origin] >= MOST_STRANGERS
            if not full:
                self._origins[id(request)] = (request, origin)
        if full:
            log.warning("too many connections from %s; one is turned away", origin)
            self.shutdown_request(request)
            return
        super().process_request(request, (origin, 0))

    def seat(self, connection: Any, node: NodeName) -> bool:
        """See `House.seat`."""
        with self._lock:
            if Counter(self._nodes.values())[node] >= MOST_OF_A_NODE:
                return False
            self._nodes[id(connection.request)] = node
            return True

    def shutdown_request(self, request: Any) -> None:
        """The connection has ended."""
        with self._lock:
            self._origins.pop(id(request), None)
            self._nodes.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A bug in serving one connection: it ends, and the node tries again."""
        log.exception("a connection of %s failed inside the relay", client_address)

    def close_all(self) -> None:
        """Listen no more, and cut off whoever is connected: they try again, and find the next relay."""
        self.socket.close()
        self._path.unlink(missing_ok=True)
        with self._lock:
            connections = [connection for connection, _ in self._origins.values()]
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _open_files() -> int:
    """How many files this process may have open, after having asked for as many as it may get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
