"""The words of the way through a relay: addresses, tokens, names of requests and headers, and errors on the wire.

Both ends use them: the relay on the submitter's machine, and the client that a node's `store.relay` and `queue.relay`
share. Nothing here opens a connection. What requests carry is `queue.wire`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from kubeq.core import wire
from kubeq.core.model import NodeName
from kubeq.core.wire import checks
from kubeq.errors import (
    AccessDenied,
    BackendError,
    Conflict,
    IntegrityError,
    KubeqError,
    ObjectNotFound,
    UsageError,
    VersionMismatch,
)

SCHEME = "relay"
PROTOCOL = 1
ROOT = "/kubeq/"
"""Every path is `/kubeq/<protocol>/<name>`; an object's is `/kubeq/<protocol>/object/<key, percent-encoded>`."""
OBJECT = "object/"
VERSION = "Kubeq-Version"
SHA256 = "Kubeq-Sha256"
LARGEST_DOCUMENT = 8 * 2**20
"""Bytes of a request's JSON: a thousand keys of 1,024 bytes that JSON escapes, or a hundred finished attempts."""
CLOSED_AFTER_S = 60.0
"""After so long without a request the relay closes a connection."""
LONGEST_MESSAGE = 2000
_SECRET = re.compile(r"[0-9a-f]{64}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a relay is reached: a port of this machine (perhaps the end of a tunnel), or a Unix socket.

    In place of the socket there may be a file that holds HOST:PORT: it is read for each connection.
    """

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def url(self) -> str:
        """What `parse_url` makes this very address from again."""
        return f"{SCHEME}://{quote(str(self.path))}" if self.path is not None else f"{SCHEME}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Token:
    """What a node shows to a relay: who it is, and 256 random bits. Written NODE:HEX; never in a URL, never shown."""

    node: NodeName
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        return f"{self.node}:{self.secret}"


def parse_token(text: str) -> Token:
    """The token. Raises UsageError, without repeating it."""
    node, _, secret = text.strip().rpartition(":")
    if not is_node_name(node) or not _SECRET.fullmatch(secret):
        raise UsageError(
            "that is no token of a relay", hint="kubeq agent --relay writes one, NODE:64 digits, to a file"
        )
    return Token(NodeName(node), secret)


def is_node_name(text: str) -> bool:
    """Whether a node could be called so, and a file after it."""
    return _NODE.fullmatch(text) is not None


def parse_url(url: str) -> Address:
    """The address in `relay://HOST:PORT` or `relay:///PATH`. Raises UsageError."""
    hint = "write relay://127.0.0.1:PORT or relay:///PATH/OF/ITS/SOCKET"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"the relay's URL {url[:80]!r} is not a URL", hint=hint) from None
    path = unquote_to_bytes(parts.path).decode(errors="surrogateescape")
    if "@" in parts.netloc or parts.query or parts.fragment or parts.scheme != SCHEME:
        raise UsageError("the relay's URL holds more than an address", hint=hint)
    if host is not None and port and path in ("", "/"):
        return Address(host=host, port=port)
    if not parts.netloc and path.startswith("/") and len(path) > 1 and "\0" not in path:
        return Address(path=Path(path))
    raise UsageError(f"the relay's URL {url[:80]!r} names neither a port nor a socket", hint=hint)


def object_path(key: str, start: int = 0) -> str:
    """The path of a request for an object."""
    return f"{ROOT}{PROTOCOL}/{OBJECT}{quote(key, safe='/')}" + (f"?start={start}" if start else "")


def call_path(name: str) -> str:
    """The path of a request by name."""
    return f"{ROOT}{PROTOCOL}/{name}"


# -- errors -----------------------------------------------------------------------------------------------------------

UNKNOWN, FORBIDDEN, TOO_LARGE, MISUNDERSTOOD = 401, 403, 413, 400
_KINDS: tuple[tuple[type[Exception], str, int], ...] = (
    (ObjectNotFound, "not_found", 404),
    (IntegrityError, "integrity", 422),
    (AccessDenied, "denied", FORBIDDEN),
    (VersionMismatch, "version", 426),
    (Conflict, "conflict", 409),
    (BackendError, "backend", 503),
    (KubeqError, "backend", 500),
    (ValueError, "value", MISUNDERSTOOD),
)
"""What an error is called on the wire and with which status it goes; the first that fits, so subclasses stand first."""
_MADE: Mapping[str, Callable[[str, str | None], Exception]] = {
    "not_found": lambda message, hint: ObjectNotFound(message, hint=hint),
    "integrity": lambda message, hint: IntegrityError(message, hint=hint),
    "denied": lambda message, hint: AccessDenied(message, hint=hint),
    "version": lambda message, hint: VersionMismatch(message, hint=hint),
    "conflict": lambda message, hint: Conflict(message, hint=hint),
    "value": lambda message, hint: ValueError(message),
}


def encode_error(error: KubeqError | ValueError) -> tuple[int, bytes]:
    """The status and the body of an answer that says no."""
    kind, status = next((kind, status) for known, kind, status in _KINDS if isinstance(error, known))
    transient = isinstance(error, BackendError) and error.transient
    message = error.message if isinstance(error, KubeqError) else str(error)
    document = {
        "schema": wire.SCHEMA,
        "error": kind,
        "message": message[:LONGEST_MESSAGE],
        "hint": error.hint if isinstance(error, KubeqError) else None,
        "transient": transient,
    }
    # A message may quote what is not valid Unicode; JSON's own escapes can.
    return status, wire.dumps(document).encode(errors="backslashreplace")


def decode_error(status: int, body: bytes) -> Exception:
    """The error that such an answer means; a BackendError for one that is no relay's (another server's, a proxy's)."""
    try:
        document = wire.loads(body, "an answer of the relay")
        kind, message = document["error"], str(document["message"])[:LONGEST_MESSAGE]
        hint, transient = document["hint"], checks.flag(document["transient"])
    except (BackendError, KeyError, ValueError):
        return BackendError(f"what answers as the relay is none: it said {status}", transient=status >= 500)
    made = _MADE.get(kind)
    return made(message, hint) if made is not None else BackendError(message, hint=hint, transient=transient)
