"""Plain HTTP over the engine's socket, for what the docker library lacks: a fresh connection, and a live stream whose
buffered bytes are not lost. Raises what the standard library raises; `docker_engine` gives that its meaning.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The engine said no."""

    status: int
    words: str


class Attached:
    """The output of one container as the engine frames it."""

    def __init__(self, stream: socket.socket, response: http.client.HTTPResponse) -> None:
        self._stream = stream
        self._response = response

    def read(self, size: int) -> bytes:
        """What came, at most `size` bytes; none at the end. Raises OSError if the connection breaks."""
        return self._response.read1(size)

    def interrupt(self) -> None:
        """Ends a `read` that waits in another thread; that thread closes it."""
        with contextlib.suppress(OSError):  # the other side was first
            self._stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection. Only for the thread that reads."""
        self._response.close()
        self._stream.close()


def ping(path: str, timeout: float) -> tuple[int, str]:
    """The HTTP status and the engine's API version."""
    connection = _UnixConnection(path, timeout)
    with contextlib.closing(connection):
        connection.request("GET", "/_ping")
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("Api-Version") or "auto"


def attach(path: str, version: str, container: str, timeout: float) -> Attached | Refusal:
    """The output of a container from now on; `timeout` bounds the answer, not the stream."""
    connection = _UnixConnection(path, timeout)
    with contextlib.closing(connection):  # the response keeps the socket open
        place = f"/v{version}/containers/{container}/attach?stream=1&stdout=1&stderr=1"
        connection.request("POST", place, headers={"Content-Length": "0"})
        stream: socket.socket = connection.sock  # `getresponse` lets go of it
        response = connection.getresponse()
        if response.status != 200:
            content = response.read()
            return Refusal(response.status, _message_in(content))
        stream.settimeout(None)  # a task may be silent for days
        return Attached(stream, response)


def _message_in(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip()
