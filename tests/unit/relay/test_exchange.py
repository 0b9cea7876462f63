"""The relay's HTTP as somebody sees it who does not use our client: what is not plainly ours is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeq.errors import AccessDenied, BackendError, VersionMismatch
from kubeq.relay import exchange, incoming, server
from kubeq.relay.requests import CALLS
from kubeq.relay_client import RelayClient
from kubeq.relay_wire import PROTOCOL, Address, decode_error
from kubeq.sockets import connected
from tests.relays import POOL
from tests.unit.relay.conftest import House, Node

ROOT = f"/kubeq/{PROTOCOL}"
LINES = [
    b"GET /kubeq/1/peers HTTP/1.1",
    b"POST /kubeq/1/claim HTTP/1.0",
    b"GET / HTTP/9.9",
    b"GET /",
    b"X",
    b"",
    b": x",
]
LINES += [
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Authorization: Bearer n1:x",
    b"\x00",
]
PEERS = json.dumps({"schema": 1, "pool": POOL}).encode()


class Caller:
    """A connection to the relay's socket, in plain bytes."""

    def __init__(self, house: House, node: Node | None = None) -> None:
        self.socket = connected(house.relay.socket, 20.0)
        self.node = node
        self._rest = b""

    def head(self, line: str, *headers: str) -> bytes:
        shown = [] if self.node is None else [f"Authorization: Bearer {self.node.token.text}", "Kubeq-Version: 0.1"]
        return "\r\n".join([line, "Host: x", *shown, *headers, "", ""]).encode("latin-1")

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def answer(self) -> tuple[int, bytes]:
        """The status and body of the next answer; 0 if the connection has ended."""
        content = self._rest
        while b"\r\n\r\n" not in content:
            piece = self.socket.recv(65536)
            if not piece:
                return 0, content
            content += piece
        head, _, body = content.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None, head
        while len(body) < int(length[1]):
            piece = self.socket.recv(65536)
            assert piece, "the answer broke off"
            body += piece
        self._rest = body[int(length[1]) :]
        return int(head.split()[1]), body[: int(length[1])]

    def ask(self, line: str, *headers: str, body: bytes = b"") -> tuple[int, bytes]:
        self.send(self.head(line, *headers, *([f"Content-Length: {len(body)}"] if body else [])) + body)
        return self.answer()

    def has_ended(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def node(house: House) -> Node:
    return house.node("n1")


@pytest.fixture
def call(house: House, node: Node) -> Callable[..., tuple[int, bytes]]:
    """A request on a connection of its own, with the node's token."""
    return lambda *words, **more: Caller(house, node).ask(*words, **more)


def test_a_connection_serves_one_request_after_another(house: House, node: Node) -> None:
    caller = Caller(house, node)
    for _ in range(3):
        status, body = caller.ask(f"POST {ROOT}/peers HTTP/1.1", body=PEERS)
        assert (status, json.loads(body)["nodes"]) == (200, [])


def test_two_requests_sent_at_once_have_two_answers(house: House, node: Node) -> None:
    caller = Caller(house, node)
    one = caller.head(f"POST {ROOT}/peers HTTP/1.1", f"Content-Length: {len(PEERS)}") + PEERS
    caller.send(one + one)
    assert [caller.answer()[0], caller.answer()[0]] == [200, 200]


@pytest.mark.parametrize(
    "shown",
    [
        (),
        ("Authorization: Bearer ",),
        ("Authorization: Bearer n1",),
        ("Authorization: Bearer n1:" + "0" * 64,),
        ("Authorization: Bearer n1:" + "0" * 63,),
        ("Authorization: Bearer ../n1:" + "0" * 64,),
        ("Authorization: Basic bjE6eA==",),
        ("Authorization: Bearer n1:" + "é" * 64,),
    ],
)
def test_a_stranger_is_told_so_and_the_connection_ends(house: House, node: Node, shown: tuple[str, ...]) -> None:
    caller = Caller(house)
    status, body = caller.ask(f"POST {ROOT}/peers HTTP/1.1", "Kubeq-Version: 1", *shown, body=PEERS)
    assert status == 401
    assert isinstance(decode_error(status, body), AccessDenied)
    assert caller.has_ended()


def test_two_tokens_are_none(house: House, node: Node) -> None:
    caller = Caller(house, node)
    status, _ = caller.ask(f"POST {ROOT}/peers HTTP/1.1", f"Authorization: Bearer {node.token.text}", body=PEERS)
    assert status == 401


def test_an_agent_of_another_protocol_is_told_which_it_ought_to_speak(call: Callable[..., tuple[int, bytes]]) -> None:
    status, body = call("POST /kubeq/2/peers HTTP/1.1", body=PEERS)
    error = decode_error(status, body)
    assert isinstance(error, VersionMismatch)
    assert "speaks protocol 2" in error.message
    assert error.hint


def test_a_request_of_a_newer_schema_is_refused_as_such(call: Callable[..., tuple[int, bytes]]) -> None:
    status, body = call(f"POST {ROOT}/peers HTTP/1.1", body=json.dumps({"schema": 2, "pool": POOL}).encode())
    assert isinstance(decode_error(status, body), VersionMismatch)


def test_who_does_not_say_which_kubeq_it_is_of_is_no_agent(house: House, node: Node) -> None:
    for version in ((), ("Kubeq-Version: ",), ("Kubeq-Version: a b",), ("Kubeq-Version: " + "1" * 100,)):
        token = f"Authorization: Bearer {node.token.text}"
        assert Caller(house).ask(f"POST {ROOT}/peers HTTP/1.1", token, *version, body=PEERS)[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/kubeq",
        "/kubeq/1",
        "/kubeq/x/peers",
        f"{ROOT}/",
        f"{ROOT}/nothing",
        f"{ROOT}/claim/../peers",
        "*",
        "http://x/",
        f"{ROOT}/object/nodes/n1/x",
        "/../etc/passwd",
        f"{ROOT}/__class__",
        f"//x{ROOT}/peers",
    ],
)
def test_a_path_that_means_nothing_is_refused(call: Callable[..., tuple[int, bytes]], path: str) -> None:
    assert call(f"POST {path} HTTP/1.1", body=PEERS)[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"schema": "1"}',
        b'{"schema": true}',
        b"\xff\xfe",
        b'{"schema": 1, "pool": NaN}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"schema": 1, "pool": ' + b"9" * 10_000 + b"}",
        b'{"schema": 1, "pool": {}}',
        b'{"schema": 1, "pool": "\\ud800"}',
        b'{"schema": 1}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_a_body_that_is_no_request_is_refused(call: Callable[..., tuple[int, bytes]], body: bytes) -> None:
    status, answer = call(f"POST {ROOT}/peers HTTP/1.1", body=body)
    assert status == 400
    assert isinstance(decode_error(status, answer), ValueError)


@pytest.mark.parametrize(
    "headers",
    [
        ("Transfer-Encoding: chunked",),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Content-Length: 5, 5",),
        ("Content-Length: 0x5",),
        ("Content-Length: 99999999999999999999",),
        ("Content-Length: ",),
        (),
        ("Content-Length: 5", "Origin: http://localhost"),
    ],
    ids=str,
)
def test_a_length_that_is_not_plain_is_refused_and_the_connection_not_used_again(
    house: House, node: Node, headers: tuple[str, ...]
) -> None:
    caller = Caller(house, node)
    caller.send(caller.head(f"POST {ROOT}/peers HTTP/1.1", *headers) + b"5\r\nhello\r\n0\r\n\r\n")
    assert caller.answer()[0] == 400
    smuggled = caller.head(f"POST {ROOT}/peers HTTP/1.1", f"Content-Length: {len(PEERS)}") + PEERS
    try:
        caller.send(smuggled)
        assert caller.answer()[0] == 0
    except (BrokenPipeError, ConnectionResetError):
        pass


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD", "get", "\x00"])
def test_other_methods_are_refused(house: House, node: Node, method: str) -> None:
    caller = Caller(house, node)
    caller.send(caller.head(f"{method} {ROOT}/peers HTTP/1.1"))
    assert caller.answer()[0] in (400, 501)


def test_too_long_lines_and_too_many_headers_are_refused(house: House, node: Node) -> None:
    for head in (
        f"POST {ROOT}/{'x' * 70_000} HTTP/1.1\r\n\r\n".encode(),
        f"POST {ROOT}/peers HTTP/1.1\r\nX: {'x' * 70_000}\r\n\r\n".encode(),
        f"POST {ROOT}/peers HTTP/1.1\r\n".encode() + b"X: x\r\n" * 200 + b"\r\n",
    ):
        caller = Caller(house, node)
        caller.send(head)
        assert caller.answer()[0] in (414, 431)
        assert caller.has_ended()


def test_a_request_that_is_too_large_is_refused_before_it_is_read(house: House, node: Node) -> None:
    caller = Caller(house, node)
    caller.send(caller.head(f"POST {ROOT}/stat HTTP/1.1", f"Content-Length: {10**12}"))
    assert caller.answer()[0] == 413
    assert caller.has_ended()


HOLD = {"job": "job-1", "index": 1, "attempt": 1, "nonce": "n", "cancel_asked": False}
FIELDS = (
    "agent after ahead ends free holding job keys life limit name node pool prefix room row seconds seen started_at"
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["n1", POOL, "job-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3) | st.just(HOLD),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(CALLS)), document=st.dictionaries(st.sampled_from(FIELDS.split()), ANYTHING))
def test_whatever_a_node_asks_is_answered_or_refused_and_never_a_failure_of_the_relay(
    house: House, name: str, document: dict[str, Any]
) -> None:
    node = house.node("n1")
    seconds = document.get("seconds")
    if name == "wait" and isinstance(seconds, int | float) and seconds > 0.01:
        document["seconds"] = 0.01
    status, body = Caller(house, node).ask(
        f"POST {ROOT}/{name} HTTP/1.1", body=json.dumps({"schema": 1, **document}).encode()
    )
    assert status in (200, 400, 403), (status, body)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.lists(st.sampled_from(LINES), max_size=8).map(b"\r\n".join))
def test_whatever_comes_over_the_line_ends_in_an_answer_or_the_end_of_the_connection(
    house: House, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    caller = Caller(house)
    with suppress(BrokenPipeError, ConnectionResetError):
        caller.send(content)
        caller.socket.shutdown(socket.SHUT_WR)
        while caller.socket.recv(65536):
            pass
    assert "failed inside the relay" not in caplog.text


# -- objects ----------------------------------------------------------------------------------------------------------


def upload(caller: Caller, key: str, content: bytes, *, sha256: str | None = None, size: int | None = None) -> None:
    digest = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
    length = len(content) if size is None else size
    line = f"PUT {ROOT}/object/{key} HTTP/1.1"
    caller.send(caller.head(line, f"Kubeq-Sha256: {digest}", f"Content-Length: {length}") + content)


def test_an_upload_that_is_not_what_it_says_is_refused_and_leaves_nothing(house: House, node: Node) -> None:
    for sha256 in ("0" * 64, "", "x" * 64, "0" * 63):
        caller = Caller(house, node)
        upload(caller, "nodes/n1/x", b"content", sha256=sha256)
        assert caller.answer()[0] in (400, 422)
    assert list(house.objects.list("")) == []


def test_an_upload_that_breaks_off_leaves_nothing(house: House, node: Node) -> None:
    caller = Caller(house, node)
    upload(caller, "nodes/n1/x", b"half", size=8)
    caller.socket.shutdown(socket.SHUT_WR)
    assert caller.answer()[0] in (0, 503)
    assert list(house.objects.list("")) == []


def test_the_rest_of_a_refused_upload_is_read_away_and_the_connection_goes_on(house: House, node: Node) -> None:
    caller = Caller(house, node)
    upload(caller, "nodes/n2/x", b"x" * 500_000)
    assert caller.answer()[0] == 403
    upload(caller, "nodes/n1/x", b"mine")
    assert caller.answer() == (200, b'{"schema":1,"created":true}')
    upload(caller, "nodes/n1/x", b"m" * 500_000)
    assert caller.answer() == (200, b'{"schema":1,"created":false}')
    assert caller.ask(f"POST {ROOT}/peers HTTP/1.1", body=PEERS)[0] == 200


def test_a_large_upload_that_is_refused_ends_the_connection(house: House, node: Node) -> None:
    caller = Caller(house, node)
    line = f"PUT {ROOT}/object/nodes/n2/x HTTP/1.1"
    caller.send(caller.head(line, "Kubeq-Sha256: " + "0" * 64, f"Content-Length: {10**9}"))
    assert caller.answer()[0] == 403
    assert caller.has_ended()


PATHS = {
    "nodes/n1/../n2/secret": 403,
    "nodes/n1/%2e%2e/n2/secret": 403,
    "nodes/n1/%2E%2E%2Fn2%2Fsecret": 403,
    "nodes%2Fn2%2Fsecret": 403,
    "nodes/n1/%252e%252e/n2/secret": 404,
    "nodes/n1//secret": 403,
    "nodes/n1/%00": 403,
    "nodes/n1/%ff": 400,
    "/nodes/n2/secret": 403,
    "nodes/n1/x#y": 404,
    "nodes/n1/x;y": 404,
    "nodes/n1/%": 404,
    "nodes/n1/x?start=-1": 400,
    "nodes/n1/x?start=1&start=2": 400,
    "nodes/n1/x?key=nodes/n2/secret": 400,
    "nodes/n1/x?start=0": 404,
}


@pytest.mark.parametrize("path", PATHS)
def test_no_spelling_of_a_path_leads_out_of_what_is_allowed(
    house: House, call: Callable[..., tuple[int, bytes]], path: str
) -> None:
    house.objects.put("nodes/n2/secret", lambda: io.BytesIO(b"s"), 1, hashlib.sha256(b"s").hexdigest())
    status, body = call(f"GET {ROOT}/object/{path} HTTP/1.1")
    assert status == PATHS[path], body


# -- time and number --------------------------------------------------------------------------------------------------


def test_who_takes_too_long_to_say_anything_is_hung_up_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FIRST_S", 0.3)
    caller = Caller(house)
    began = time.monotonic()
    caller.send(b"POST /")
    assert caller.has_ended()
    assert time.monotonic() - began < 10.0


def test_a_request_that_trickles_in_is_given_up(house: House, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "DOCUMENT_S", 0.5)
    caller = Caller(house, node)
    caller.send(caller.head(f"POST {ROOT}/peers HTTP/1.1", "Content-Length: 1000"))
    began = time.monotonic()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while time.monotonic() - began < 20.0:
            caller.send(b" ")
            time.sleep(0.02)
    assert time.monotonic() - began < 15.0


def test_an_upload_that_falls_silent_is_given_up_and_leaves_nothing(
    house: House, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "QUIET_S", 0.3)
    caller = Caller(house, node)
    upload(caller, "nodes/n1/x", b"half", size=8)
    assert caller.answer()[0] == 0
    assert list(house.objects.list("")) == []


def test_strangers_and_nodes_have_a_bounded_number_of_connections(
    house: House, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_STRANGERS", 3)
    monkeypatch.setattr(server, "MOST_OF_A_NODE", 2)
    kept = [Caller(house, node) for _ in range(2)]
    for caller in kept:
        assert caller.ask(f"POST {ROOT}/peers HTTP/1.1", body=PEERS)[0] == 200
    strangers = [Caller(house) for _ in range(3)]
    one_too_many = Caller(house)
    assert one_too_many.has_ended()
    for caller in kept:
        assert caller.ask(f"POST {ROOT}/peers HTTP/1.1", body=PEERS)[0] == 200, "those who are known go on"
    for stranger in strangers:
        stranger.socket.close()
    status, body = first_answer(lambda: Caller(house, node).ask(f"POST {ROOT}/peers HTTP/1.1", body=PEERS))
    error = decode_error(status, body)
    assert isinstance(error, BackendError)
    assert error.transient


def first_answer(ask: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
    """What is answered once the relay has noticed that there is room again."""
    for _ in range(1000):
        try:
            if (answer := ask())[0]:
                return answer
        except (BrokenPipeError, ConnectionResetError):
            pass
        time.sleep(0.01)
    raise AssertionError("the relay turns everybody away for ever")


def test_what_answers_but_is_no_relay_is_told_apart() -> None:
    error = decode_error(502, b"<html>Bad Gateway</html>")
    assert isinstance(error, BackendError)
    assert error.transient
    assert isinstance(decode_error(404, b"{}"), BackendError)


def test_a_relay_that_is_not_there_is_out_of_reach_and_not_lost(house: House, node: Node) -> None:
    house.relay.stop()
    for address in (house.relay.address, Address(host="127.0.0.1", port=1)):
        with pytest.raises(BackendError, match="cannot be reached") as error:
            RelayClient(address, node.token).call("peers", {"pool": POOL})
        assert error.value.transient
    house.relay.start()
    assert node.claims.peers(POOL) == []
