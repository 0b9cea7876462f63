"""Compute Engine's stand-in: its REST interface as far as kubeq calls it, in this process, for any process here.

True to the service in what kubeq rests on: names are taken once a zone, a request id makes one instance, a machine that
switches itself off stays until it is deleted, one that is taken back or whose time is over is deleted as its scheduling
says, want of capacity shows in the operation and quota at once or there. It checks that machine type, image, network
and account exist, and asks for no credentials. Without `machines`, instances are records only.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from re import fullmatch
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.stand_ins.gce_catalogue import PROJECT, Catalogue
from tests.stand_ins.gce_instances import Instances, Machinery
from tests.stand_ins.gce_routes import route
from tests.stand_ins.gce_wire import Json, Refused

EMULATOR = "COMPUTE_EMULATOR_HOST"
"""By which kubeq is sent here; not imported from where it is used, which would load Google's libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came in."""

    method: str
    query: Mapping[str, str]
    body: Json


@dataclass(slots=True, kw_only=True)
class Fault:
    """The next `times` requests of that method (a pattern) fail; `applied`: carried out, only the answer is lost."""

    method: str
    status: int = 503
    reason: str = "backendError"
    message: str = "injected"
    times: int = 1
    applied: bool = False


@dataclass(slots=True)
class FakeGce:
    """The service, and what tests do to it. `gone`: nobody answers at all."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    instances: Instances = field(default_factory=Instances)
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    gone: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads kubeq here."""
        return {EMULATOR: self.url, "GOOGLE_CLOUD_PROJECT": PROJECT}

    @property
    def calls(self) -> Counter[str]:
        """How often each method was called."""
        return Counter(asked.method for asked in self.asked)

    def answer(self, verb: str, target: str, body: Json) -> Json:
        """What a request is answered. Raises Refused, or ConnectionError when the answer is lost."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        method, call = route(self.catalogue, self.instances, verb, parts.path, query, body)
        with self.lock:
            self.asked.append(Asked(method=method, query=query, body=body))
            fault = next((one for one in self.faults if one.times > 0 and fullmatch(one.method, method)), None)
            if fault is not None:
                fault.times -= 1
        if self.gone:
            raise ConnectionResetError
        if fault is not None and not fault.applied:
            raise Refused(fault.status, fault.reason, fault.message)
        answered = call()
        if fault is not None:
            raise ConnectionResetError
        return answered


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, fake: FakeGce) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that were cut are not worth a traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *values: object) -> None:
        """Quiet."""

    def _do(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size) or b"{}") if size else {}
        try:
            status, answer = 200, self.server.fake.answer(self.command, self.path, body)
        except Refused as refused:
            status, answer = refused.status, refused.told()
        except ConnectionError:
            self.close_connection = True
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _do


@contextmanager
def serving_gce(machines: Machinery | None = None) -> Iterator[FakeGce]:
    """A Compute Engine of one's own, for a block; whatever still stands in the end is removed."""
    fake = FakeGce()
    fake.instances.machines = machines
    server = _Server(fake)
    fake.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        fake.instances.remove_all()


@pytest.fixture
def gce(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGce]:
    """A Compute Engine whose instances are records; every client that is made during the test uses it."""
    with serving_gce() as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        yield fake
