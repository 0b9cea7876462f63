"""The notice that a machine is taken back, from services that answer as the clouds' do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kubeq_consumer.notice import Notice

EC2, GOOGLE = "/latest/meta-data/spot/instance-action", "/computeMetadata/v1/instance/preempted"


class Service(ThreadingHTTPServer):
    """Both clouds' services; `session` is EC2's, `given` says that the notice is."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.given = False
        self.session = "first"
        self.asked = list[str]()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_PUT(self) -> None:
        seconds = self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        ok = self.path == "/latest/api/token" and 1 <= int(seconds) <= 21600
        self._answer(200 if ok else 400, self.server.session)

    def do_GET(self) -> None:
        if self.path == GOOGLE and self.headers["Metadata-Flavor"] == "Google":
            self._answer(200, "TRUE" if self.server.given else "FALSE")
        elif self.path == EC2 and self.headers["X-aws-ec2-metadata-token"] == self.server.session:
            notice = '{"action": "terminate", "time": "2026-01-01T00:00:00Z"}'
            self._answer(*((200, notice) if self.server.given else (404, "<html>")))
        else:
            self._answer(401, "")

    def _answer(self, code: int, text: str) -> None:
        self.server.asked.append(f"{self.command} {code}")
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", [EC2, GOOGLE])
def test_a_notice_is_seen_once_it_is_given(service: Service, path: str) -> None:
    asked = Notice(service.url(path))
    assert not asked.is_given()
    service.given = True
    assert asked.is_given()


def test_a_session_of_ec2_serves_until_it_is_refused(service: Service) -> None:
    asked = Notice(service.url(EC2))
    for _ in range(2):
        assert not asked.is_given()
    assert service.asked == ["PUT 200", "GET 404", "GET 404"]
    service.session, service.given = "second", True
    assert not asked.is_given()
    assert asked.is_given()


def test_a_service_that_does_not_answer_gives_no_notice(service: Service) -> None:
    url = service.url(EC2)
    service.shutdown()
    service.server_close()
    assert not Notice(url).is_given()


def test_whoever_watches_is_told_once(service: Service) -> None:
    told, stop = list[bool](), threading.Event()
    service.given = True
    Notice(service.url(GOOGLE), look_s=0.01).watch(lambda: told.append(True), stop)
    assert told == [True]
    stop.set()
    Notice(service.url(GOOGLE), look_s=0.01).watch(lambda: told.append(True), stop)
    assert told == [True]
