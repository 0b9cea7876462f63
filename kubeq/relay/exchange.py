"""One connection of a node: HTTP/1.1 requests, one after another. What they mean is in `requests`.

What is not plainly what our own client sends is refused: no chunks, no second lengths, no pages of a browser.
"""

from __future__ import annotations

import io
import json
import logging
import re
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO, NoReturn, Protocol
from urllib.parse import unquote_to_bytes

import kubeq
from kubeq.core import wire
from kubeq.core.model import NodeName
from kubeq.errors import AccessDenied, BackendError, KubeqError, ObjectNotFound, UsageError, VersionMismatch
from kubeq.relay.incoming import CHUNK, Body, Timed
from kubeq.relay.requests import CALLS, answer
from kubeq.relay.service import Desk, Relay
from kubeq.relay_wire import (
    CLOSED_AFTER_S,
    LARGEST_DOCUMENT,
    OBJECT,
    PROTOCOL,
    ROOT,
    SHA256,
    TOO_LARGE,
    UNKNOWN,
    VERSION,
    encode_error,
    parse_token,
)

log = logging.getLogger(__name__)
FIRST_S = 15.0
"""How long somebody who has not shown a token yet may take over a request."""
DOCUMENT_S = 60.0
SLOWEST = 4096
"""Bytes a second; an upload that is slower on the whole is given up."""
SEND_S = 60.0
DRAINED = 2**20
"""So much of a request that was refused is read away, so that the answer is heard and the connection can be kept."""
_PATH = re.compile(rf"{ROOT}([0-9]{{1,4}})/(.*)", re.DOTALL)
_START = re.compile(r"start=([0-9]{1,18})")
_LENGTH = re.compile(r"[0-9]{1,15}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9A-Za-z.+!-]{1,64}")


class House(Protocol):
    """The server, as its connections see it."""

    relay: Relay

    def seat(self, connection: object, node: NodeName) -> bool:
        """Whether this connection of the node may stay: a node has a bounded number."""
        ...


class Exchange(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = f"kubeq/{kubeq.__version__}"
    sys_version = ""
    server: House  # type: ignore[assignment]

    def setup(self) -> None:
        """Read with a deadline; answers leave in one piece."""
        self.connection = self.request
        self._line = Timed(self.connection)
        self.rfile = io.BufferedReader(self._line, CHUNK)
        self.wfile = self.connection.makefile("wb", CHUNK)
        self._desk: Desk | None = None
        self._body = Body(self.rfile, 0)

    def handle(self) -> None:
        """Until either side has had enough; a connection that breaks is none of our trouble."""
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def handle_one_request(self) -> None:
        """The next request, which has to come before the connection is given up."""
        self._line.allow(FIRST_S if self._desk is None else CLOSED_AFTER_S)
        self._body = Body(self.rfile, 0)
        super().handle_one_request()

    def finish(self) -> None:
        """Let go of the connection."""
        for stream in (self.wfile, self.rfile):
            with suppress(OSError, ValueError):
                stream.close()

    def do_GET(self) -> None:
        """An object."""
        self._serve(self._send_object)

    def do_PUT(self) -> None:
        """A new object."""
        self._serve(self._take_object)

    def do_POST(self) -> None:
        """A request by name."""
        self._serve(self._answer_call)

    def log_message(self, format: str, *words: Any) -> None:
        """Nothing of every request; what is refused is logged where that is decided."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library itself refuses: too long lines, too many headers, other methods."""
        self.close_connection = True
        self._send(code, encode_error(ValueError(message or "the relay does not understand this"))[1])

    def _serve(self, respond: Any) -> None:
        try:
            self._body.left = self._length()
            desk = self._known()
            respond(desk, self._name())
        except (KubeqError, ValueError) as error:
            self._refuse(error)
        try:
            if not self._body.drain(DRAINED if self._desk else 0):
                self.close_connection = True
        except BackendError:
            self.close_connection = True

    def _length(self) -> int:
        """How long the body is. Raises ValueError unless that is said plainly."""
        if self.headers.get_all("Transfer-Encoding") or self.headers.get_all("Origin"):
            raise ValueError("the relay answers its own nodes, and in one piece")
        lengths = self.headers.get_all("Content-Length", [])
        if self.command == "GET" and not lengths:
            return 0
        if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0].strip()):
            raise ValueError("a request needs one length")
        return int(lengths[0])

    def _known(self) -> Desk:
        """The desk of the node. Raises AccessDenied for a stranger, VersionMismatch for another protocol."""
        shown = self.headers.get_all("Authorization", [])
        version = self.headers.get(VERSION, "")
        try:
            if len(shown) != 1 or not shown[0].startswith("Bearer "):
                raise UsageError("no token was shown")
            desk = self.server.relay.desk(parse_token(shown[0].removeprefix("Bearer ")))
        except UsageError as error:
            raise _Stranger(error.message) from error
        except AccessDenied as error:
            raise _Stranger(error.message, hint=error.hint) from error
        if not _VERSION.fullmatch(version):
            raise ValueError("an agent says which kubeq it is of")
        if self._desk is None and not self.server.seat(self, desk.guest.node):
            raise BackendError(f"node {desk.guest.node} has too many connections already", transient=True)
        self._desk = desk
        return desk

    def _name(self) -> str:
        """What is asked for, without protocol. Raises VersionMismatch, ValueError."""
        match = _PATH.fullmatch(self.path)
        if match is None:
            raise ValueError("the relay has nothing under that path")
        if int(match[1]) != PROTOCOL:
            raise VersionMismatch(
                f"an agent of kubeq {self.headers.get(VERSION, '')[:64]} speaks protocol {match[1]} of the relay, and "
                f"the relay of kubeq {kubeq.__version__} speaks {PROTOCOL}",
                hint="stop the node, and start it with the kubeq that is on the submitter's machine",
            )
        return match[2]

    def _answer_call(self, desk: Desk, name: str) -> None:
        if name not in CALLS:
            raise ValueError(f"the relay knows no request {name[:40]!r}")
        if self._body.left > LARGEST_DOCUMENT:
            raise ValueError(f"a request of {self._body.left} bytes is too large; {LARGEST_DOCUMENT} is the most")
        self._line.allow(DOCUMENT_S)
        content = io.BufferedReader(self._body).read()
        self._send(200, wire.dumps(answer(self.server.relay, desk, name, _document(content))).encode())

    def _take_object(self, desk: Desk, name: str) -> None:
        key, query = _key(name)
        sha256 = self.headers.get(SHA256, "")
        if query or not _SHA256.fullmatch(sha256):
            raise ValueError("an upload says what its bytes are, and nothing else")
        size = self._body.left
        self._line.allow(DOCUMENT_S + size / SLOWEST)
        created = desk.objects.put(key, self._opened_once(), size, sha256)
        self._send(200, wire.dumps({"schema": wire.SCHEMA, "created": created}).encode())

    def _send_object(self, desk: Desk, name: str) -> None:
        key, query = _key(name)
        start = _START.fullmatch(query) if query else None
        if query and start is None:
            raise ValueError("an object is asked for from the beginning or from a start")
        offset = int(start[1]) if start else 0
        size = desk.objects.stat([key]).get(key)
        if size is None:
            raise ObjectNotFound(f"the store behind the relay holds no {key}")
        with desk.objects.get(key, offset) as stream:
            self._begin(200, max(0, size - offset), "application/octet-stream")
            self._copy(stream, max(0, size - offset))

    def _copy(self, stream: BinaryIO, size: int) -> None:
        """Send so many bytes; if the store fails in the middle the connection ends, and the node asks for the rest."""
        try:
            while size and (piece := stream.read(min(size, CHUNK))):
                self.wfile.write(piece)
                size -= len(piece)
        except BackendError as error:
            log.warning("an object broke off on its way to a node: %s", error)
        if size:
            self.close_connection = True

    def _opened_once(self) -> Any:
        """What a store opens to read an upload. There is one body: for another try the node has to send it again."""
        opened: list[bool] = []

        def open() -> BinaryIO:
            if opened:
                raise BackendError("the upload has to be sent again", transient=True)
            opened.append(True)
            return io.BufferedReader(self._body, CHUNK)

        return open

    def _refuse(self, error: KubeqError | ValueError) -> None:
        status, content = encode_error(error)
        node = "a stranger" if self._desk is None else f"node {self._desk.guest.node}"
        if isinstance(error, _Stranger):
            status, self.close_connection = UNKNOWN, True
        elif self._body.left > LARGEST_DOCUMENT and self.command == "POST":
            status = TOO_LARGE
        level = logging.DEBUG if isinstance(error, ObjectNotFound) else logging.WARNING
        log.log(level, "refused %s of %s: %s", self.command, node, error)
        self._send(status, content)

    def _send(self, status: int, content: bytes) -> None:
        self._begin(status, len(content), "application/json")
        self.wfile.write(content)

    def _begin(self, status: int, length: int, kind: str) -> None:
        self.connection.settimeout(SEND_S)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


class _Stranger(AccessDenied):
    """Somebody who has no token that is worth anything."""


def _key(name: str) -> tuple[str, str]:
    """The key and the query of a request for an object. Raises ValueError for what is none."""
    path, _, query = name.partition("?")
    if not path.startswith(OBJECT):
        raise ValueError("the relay has nothing under that path")
    try:
        return unquote_to_bytes(path.removeprefix(OBJECT)).decode(), query
    except UnicodeDecodeError:
        raise ValueError("a key is text") from None


def _document(content: bytes) -> wire.Document:
    """The document in a request. Raises ValueError for what is not plain JSON, VersionMismatch for a newer schema."""
    try:
        document = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a request is not JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict) or type(document.get("schema")) is not int:
        raise ValueError("a request has no schema number")
    if document["schema"] > wire.SCHEMA:
        raise VersionMismatch(f"a request has schema {document['schema']}; this relay reads up to {wire.SCHEMA}")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
