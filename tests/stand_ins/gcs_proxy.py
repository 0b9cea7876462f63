"""A proxy before fake-gcs-server that makes it what the tests of kubeq need of Cloud Storage; standard library only.

* It counts requests and bytes by method, and keeps each request's query, so that tests can assert what was asked for.
* It fails requests on order: with an answer or by cutting the connection, before or after they were carried out.
* It does what the emulator leaves out: preconditions of all methods but insert, comparing the checksum of an upload,
  remembering a bucket's settings. One object's requests are carried out one at a time, so preconditions are atomic.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

_VERBS = {"GET": "get", "POST": "insert", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
_NOT_PASSED_ON = {"connection", "content-length", "transfer-encoding", "date"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came in. `object` is empty where it is about a bucket or a listing."""

    method: str
    bucket: str
    object: str
    query: Mapping[str, str]
    size: int

    @staticmethod
    def of(verb: str, target: str, size: int, beginning: bytes) -> Asked:
        """The method of the JSON API that is called; a download is told apart as `objects.get media`.

        `beginning` is that of the body: there an upload says its object's name.
        """
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, objects, name = parts.path.partition("/b/")[2].partition("/o")
        action = _VERBS[verb]
        if name.endswith("/compose") and verb == "POST":
            name, action = name.removesuffix("/compose"), "compose"
        if objects and not name and verb == "GET":
            action = "list"
        if query.get("alt") == "media":
            action = "get media"
        described = re.search(rb'"name": ("(?:[^"\\\\]|\\\\.)*")', beginning) if action == "insert" else None
        named = json.loads(described[1]) if described else unquote(name.removeprefix("/"))
        return Asked(
            method=f"{'objects' if objects else 'buckets'}.{action}",
            bucket=unquote(bucket),
            object=named,
            query=query,
            size=size,
        )


class Effect(Enum):
    """What befalls a request."""

    REFUSED = "answered with the fault's status instead of being carried out"
    LOST = "carried out, but the connection is cut before the answer"
    CUT = "cut in the middle: an upload before it is carried out, a download while it is answered"
    SLOW = "carried out, but its body is read with a pause after each mebibyte"


@dataclass(slots=True, kw_only=True)
class Fault:
    """The next `times` requests of that method (a pattern), about an object whose name contains `named`, suffer it."""

    method: str
    effect: Effect = Effect.REFUSED
    status: int = 503
    reason: str = "backendError"
    message: str = "injected"
    pause_s: float = 0.0
    named: str = ""
    times: int = 1

    def meets(self, asked: Asked) -> bool:
        return self.times > 0 and re.fullmatch(self.method, asked.method) is not None and self.named in asked.object


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @staticmethod
    def error(status: int, reason: str, message: str) -> _Answer:
        """As Google words it."""
        told = {
            "code": status,
            "message": message,
            "errors": [{"domain": "global", "reason": reason, "message": message}],
        }
        return _Answer(status, [("Content-Type", "application/json")], json.dumps({"error": told}).encode())


class _Cut(Exception):
    """The connection is to be dropped."""


@dataclass(slots=True)
class _Upstream:
    """The emulator, over one connection a thread."""

    port: int
    connections: threading.local = field(default_factory=threading.local)

    def ask(self, verb: str, target: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        connection = getattr(self.connections, "kept", None)
        if connection is None:
            connection = self.connections.kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}
        connection.request(verb, target, body, sent | {"Content-Length": str(len(body))})
        answer = connection.getresponse()
        return _Answer(answer.status, answer.getheaders(), answer.read())


class GcsProxy(ThreadingHTTPServer):
    """The proxy, and what tests ask of it. `reset` between tests."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = _Upstream(upstream_port)
        self.lock = threading.Lock()
        self.locks: defaultdict[tuple[str, str], threading.RLock] = defaultdict(threading.RLock)
        self.settings: dict[str, dict[str, Any]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what was asked and which faults are to come."""
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []

    @property
    def calls(self) -> Counter[str]:
        """How often each method was called."""
        return Counter(asked.method for asked in self.asked)

    @property
    def received(self) -> Counter[str]:
        """Bytes of the bodies that came in, by method."""
        counted: Counter[str] = Counter()
        for asked in self.asked:
            counted[asked.method] += asked.size
        return counted

    def note(self, asked: Asked) -> Fault | None:
        """Count the request; the fault that befalls it, which is used up by that."""
        with self.lock:
            self.asked.append(asked)
            fault = next((fault for fault in self.faults if fault.meets(asked)), None)
            if fault is not None:
                fault.times -= 1
            return fault

    @contextmanager
    def turn(self, asked: Asked) -> Iterator[None]:
        """One at a time for each object."""
        with self.lock:
            turn = self.locks[asked.bucket, asked.object]
        with turn:
            yield


class _Handler(BaseHTTPRequestHandler):
    server: GcsProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *values: object) -> None:
        """Quiet."""

    def serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        beginning = self.rfile.read(min(size, 8192))
        asked = Asked.of(self.command, self.path, size, beginning)
        try:
            self._send(self._answer(asked, beginning, self.server.note(asked)))
        except (_Cut, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def _answer(self, asked: Asked, beginning: bytes, fault: Fault | None) -> _Answer:
        effect = fault.effect if fault else None
        download = asked.method == "objects.get media"
        if effect is Effect.CUT and not download:
            self.rfile.read((asked.size - len(beginning)) // 2)
            raise _Cut
        body = beginning + self._read(asked.size - len(beginning), fault.pause_s if fault else 0)
        if fault is not None and effect is Effect.REFUSED:
            return _Answer.error(fault.status, fault.reason, fault.message)
        with self.server.turn(asked):
            answer = self._carried_out(asked, body)
        if effect is Effect.LOST:
            raise _Cut
        if effect is Effect.CUT:
            self._send(answer, len(answer.body) // 2)
            raise _Cut
        return answer

    def _read(self, size: int, pause_s: float) -> bytes:
        pieces = []
        for start in range(0, size, 2**20):
            pieces.append(self.rfile.read(min(2**20, size - start)))
            time.sleep(pause_s)
        return b"".join(pieces)

    def _carried_out(self, asked: Asked, body: bytes) -> _Answer:
        if asked.method == "objects.insert" and not _checksum_fits(self.headers.get("Content-Type", ""), body):
            return _Answer.error(400, "invalid", "Provided CRC32C does not match the calculated CRC32C.")
        if asked.method != "objects.insert" and "ifGenerationMatch" in asked.query and not self._matches(asked):
            return _Answer.error(
                412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
            )
        if asked.method == "objects.insert" and asked.size > 2**16:
            # Into a bucket that does not exist: the emulator hangs up before it has read all of it.
            bucket = self.server.upstream.ask("GET", f"/storage/v1/b/{asked.bucket}", {}, b"")
            if bucket.status == 404:
                return bucket
        answer = self.server.upstream.ask(self.command, self.path, dict(self.headers), body)
        return self._with_settings(asked, body, answer) if asked.method.startswith("buckets.") else answer

    def _matches(self, asked: Asked) -> bool:
        target = "/storage/v1" + self.path.partition("/storage/v1")[2].partition("?")[0].removesuffix("/compose")
        standing = self.server.upstream.ask("GET", target, dict(self.headers), b"")
        generation = json.loads(standing.body)["generation"] if standing.status == 200 else 0
        return int(generation) == int(asked.query["ifGenerationMatch"])

    def _with_settings(self, asked: Asked, body: bytes, answer: _Answer) -> _Answer:
        """The emulator knows buckets by name only; the rest of what they were made with is kept here."""
        if answer.status != 200 or asked.method not in ("buckets.insert", "buckets.get", "buckets.patch"):
            return answer
        told = json.loads(answer.body)
        sent = json.loads(body) if body else {}
        with self.server.lock:
            if asked.method == "buckets.insert":
                self.server.settings[told["name"]] = {}
            settings = self.server.settings.setdefault(told["name"], {})
            settings |= sent
            merged = told | settings
        return _Answer(answer.status, answer.headers, json.dumps(merged).encode())

    def _send(self, answer: _Answer, cut_at: int | None = None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:cut_at])
        self.wfile.flush()


def _checksum_fits(content_type: str, body: bytes) -> bool:
    """Whether the bytes of a multipart upload have the CRC32C that its description says, if it says one."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if boundary is None:
        return True
    _, description, content, _ = body.split(f"--{boundary[1]}".encode(), 3)
    told = json.loads(description.partition(b"\r\n\r\n")[2]).get("crc32c")
    held = content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    return told is None or base64.b64decode(told) == google_crc32c.value(held).to_bytes(4, "big")
