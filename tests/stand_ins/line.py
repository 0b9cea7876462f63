"""A line to a server that one can do things to: bytes late, none at all, connections that close at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 2**16


class Line:
    """A port of this machine that leads to a server, each byte `delay_s` late in either direction.

    `at` is the address of this machine that has the port.
    """

    def __init__(self, address: str, port: int, delay_s: float, at: str = "127.0.0.1") -> None:
        self._target = (address, port)
        self._delay_s = delay_s
        self._listener = socket.create_server((at, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Nobody new comes through."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        """Chunks leave as late as they should, however many are on their way."""
        waiting: list[tuple[float, bytes]] = []
        news = threading.Condition()

        def deliver() -> None:
            while True:
                with news:
                    while not waiting:
                        news.wait()
                    at, chunk = waiting.pop(0)
                time.sleep(max(0.0, at - time.monotonic()))
                with suppress(OSError):
                    if not chunk:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(chunk)

        threading.Thread(target=deliver, daemon=True).start()
        chunk = b"some"
        while chunk:
            try:
                chunk = source.recv(CHUNK)
            except OSError:
                chunk = b""
            with news:
                waiting.append((time.monotonic() + self._delay_s, chunk))
                news.notify()


@contextmanager
def slow_line(address: str, port: int, delay_s: float) -> Iterator[int]:
    """The port that leads there, slowly."""
    line = Line(address, port, delay_s)
    try:
        yield line.port
    finally:
        line.close()


@contextmanager
def mute_server(*, closes: bool = False) -> Iterator[int]:
    """The port of a server that takes every connection and says nothing; or ends it at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                if closes:
                    connection.close()
                else:
                    kept.append(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()
        for connection in kept:
            connection.close()
