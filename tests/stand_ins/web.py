"""A web server of a test's own: pages with the headers that the test wants, and what a bad day does to them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest


@dataclass(slots=True, kw_only=True)
class Page:
    """What a path answers. `headers` are besides Content-Length and Date, and may replace these ("" leaves one out).

    `ranges`: whether parts of it can be had. The next `cuts` answers end in the middle, the next `refusals` are 503.
    With `then` the path has that page once it has answered.
    """

    content: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = True
    cuts: int = 0
    refusals: int = 0
    then: Page | None = None


class Web(ThreadingHTTPServer):
    """Pages by path. `asked` are the requests so far: path with query, and range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, path: str, content: bytes, **more: object) -> str:
        """The URL of a page that has a strong tag of its content, unless told otherwise."""
        page = Page(content=content, headers={"ETag": f'"{sha256(content).hexdigest()[:16]}"'})
        for name, value in more.items():
            setattr(page, name, value)
        self.pages[path] = page
        return self.url + path


class _Handler(BaseHTTPRequestHandler):
    server: Web
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *values: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        path = urlsplit(self.path).path
        page = self.server.pages.get(path, Page(status=404, content=b"no such page"))
        if page.then is not None:
            self.server.pages[path] = page.then
        if page.refusals:
            page.refusals -= 1
            page = Page(status=503)
        start = re.fullmatch(r"bytes=([0-9]+)-", wanted or "")
        status, body, headers = page.status, page.content, dict(page.headers)
        if start and page.ranges and status == 200:
            status, body = 206, page.content[int(start[1]) :]
            headers["Content-Range"] = f"bytes {start[1]}-{len(page.content) - 1}/{len(page.content)}"
        self._answer(status, {"Content-Length": str(len(body)), "Date": formatdate(usegmt=True)} | headers, page, body)

    def _answer(self, status: int, headers: Mapping[str, str], page: Page, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if page.cuts:
            page.cuts -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        if not headers["Content-Length"]:
            self.close_connection = True


@contextmanager
def serving_web() -> Iterator[Web]:
    """A web server, for a block."""
    server = Web()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server that has no page yet."""
    with serving_web() as server:
        yield server
