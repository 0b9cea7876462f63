"""Kept-alive HTTP to a relay, for nodes that can reach nothing else. What is asked: `queue.relay` and `store.relay`.

A connection serves one request at a time and is used again by whichever thread comes next. One that the relay, a tunnel
or the network has closed meanwhile is no error: the request is made on another. Every request may be made twice.
"""

from __future__ import annotations

import http.client
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import kubeq
from kubeq.core import wire
from kubeq.errors import BackendError
from kubeq.relay_wire import CLOSED_AFTER_S, VERSION, Address, Token, call_path, decode_error
from kubeq.sockets import connected

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_S = 10.0
ANSWER_S = 40.0
"""How long an answer may take: twice what the relay itself waits for its queue."""
USED_AGAIN_S = CLOSED_AFTER_S / 2
MOST_IDLE = 8
LARGEST_ANSWER = 2**28
_STALE = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)  # RemoteDisconnected is one of them
MOST_AT_ONCE = 32
"""Requests of one node that are under way; each has a connection of its own."""
Body = Callable[[], bytes | Iterable[bytes]]


class RelayClient:
    """What a node asks of its relay, so many requests at a time. Safe to use from several threads.

    Each method raises BackendError, transient where the relay cannot be reached or says so, and what the relay answers.
    """

    def __init__(self, address: Address, token: Token) -> None:
        self.url = address.url
        self._address = address
        self._headers = {"Authorization": f"Bearer {token.text}", VERSION: kubeq.__version__}
        self._slots = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []

    def call(self, name: str, document: Mapping[str, object], *, patience_s: float = 0.0) -> wire.Document:
        """The answer to a request by name, which the relay may keep us waiting for so much longer than usual."""
        # What is not valid Unicode goes as JSON's own escapes: it is for the relay to say what it thinks of it.
        body = wire.dumps({"schema": wire.SCHEMA, **document}).encode(errors="backslashreplace")
        with self._answer("POST", call_path(name), lambda: body, {}, ANSWER_S + patience_s) as response:
            content = _read_all(response, self.url)
        return wire.loads(content, f"the answer to {name} from the relay")

    def send(self, path: str, body: Body, size: int, headers: Mapping[str, str]) -> wire.Document:
        """The answer to a PUT of `size` bytes; `body` may be asked again for another try.

        What that raises passes, unless it is an OSError or an HTTPException, which would be taken for the connection's.
        """
        with self._answer("PUT", path, body, {**headers, "Content-Length": str(size)}, ANSWER_S) as response:
            content = _read_all(response, self.url)
        return wire.loads(content, "the answer to an upload from the relay")

    @contextmanager
    def fetch(self, path: str) -> Iterator[io.BufferedReader]:
        """The bytes that the relay answers; a stream that breaks off raises a transient BackendError."""
        with self._answer("GET", path, None, {}, ANSWER_S) as response, _Stream(response, self.url) as stream:
            yield io.BufferedReader(stream)

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str], timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer that says yes, to be read to its end. Raises what an answer that says no means."""
        with self._slots:
            connection, response = self._exchange(method, path, body, headers, timeout_s)
            try:
                if response.length is None:  # an answer that broke off in its head seems to have one without a length
                    raise _broken(self.url, None)
                if response.status >= 300:
                    raise decode_error(response.status, _read_all(response, self.url))
                yield response
            finally:
                if response.length == 0 and not response.will_close:
                    response.close()
                    self._keep(connection)
                else:
                    connection.close()

    def _exchange(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        while True:
            connection, used = self._take(timeout_s)
            try:
                content = None if body is None else body()
                return connection, _ask(connection, method, path, content, {**self._headers, **headers})
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                if not (used and isinstance(error, _STALE)):
                    raise self._unreachable(error) from error
            except BaseException:
                connection.close()
                raise

    def _take(self, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        """A connection for one request, and whether it has been used before."""
        oldest = time.monotonic() - USED_AGAIN_S
        with self._lock:
            while self._idle:
                connection, since = self._idle.pop()
                if since >= oldest and connection.sock is not None:
                    connection.sock.settimeout(timeout_s)
                    return connection, True
                connection.close()
        return _Connection(self._address, timeout_s), False

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _unreachable(self, error: Exception) -> BackendError:
        why = "it does not answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return BackendError(f"the relay {self.url} cannot be reached: {why}", transient=True)


class _Connection(http.client.HTTPConnection):
    """A connection to a port, to a Unix socket, or to the port that a file names."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(address.host or "localhost", address.port or 80, timeout=timeout_s)
        self._path = address.path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.timeout = min(CONNECT_S, self._timeout_s)
        if self._path is not None and self._path.is_socket():
            self.sock = connected(self._path, self.timeout)
        else:
            if self._path is not None:
                self.host, self.port = _written_in(self._path)
            super().connect()
        self.sock.settimeout(self._timeout_s)


def _written_in(path: Path) -> tuple[str, int]:
    """The HOST:PORT that stands in a file: whoever keeps a tunnel writes it anew when the port changes."""
    host, _, port = path.read_text(encoding="ascii", errors="replace").strip().rpartition(":")
    if not host or not port.isdecimal():
        raise OSError(f"{path} does not say HOST:PORT")
    return host, int(port)


class _Stream(io.RawIOBase):
    """The body of an answer, which is an error if it ends early."""

    def __init__(self, response: http.client.HTTPResponse, url: str) -> None:
        self._response = response
        self._url = url
        self._left = response.length or 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._left]
        if not view:
            return 0
        try:
            count = self._response.readinto(view)
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise _broken(self._url, error) from error
        if not count:
            raise _broken(self._url, None)
        self._left -= count
        return count


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    content: bytes | Iterable[bytes] | None,
    headers: Mapping[str, str],
) -> http.client.HTTPResponse:
    """The answer; one that comes before all has been sent (it says no) is read all the same."""
    try:
        connection.request(method, path, content, dict(headers))
    except (BrokenPipeError, ConnectionResetError):
        if connection.sock is None:
            raise
    return connection.getresponse()


def _read_all(response: http.client.HTTPResponse, url: str) -> bytes:
    if (response.length or 0) > LARGEST_ANSWER:
        raise BackendError(f"the relay {url} gave an answer of {response.length} bytes; {LARGEST_ANSWER} is the most")
    try:
        return response.read()
    except (http.client.HTTPException, OSError) as error:
        raise _broken(url, error) from error


def _broken(url: str, error: Exception | None) -> BackendError:
    why = "it ended early" if error is None else str(error) or type(error).__name__
    return BackendError(f"an answer of the relay {url} broke off: {why}", transient=True)
