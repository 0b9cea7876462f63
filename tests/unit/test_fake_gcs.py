"""The stand-in for Cloud Storage does what the service does where kubeq relies on it, and fails on order."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, IncompleteRead
from urllib.parse import quote

import google_crc32c
import pytest

from tests.stand_ins.gcs import FakeGcs
from tests.stand_ins.gcs_proxy import Effect, Fault


class Caller:
    """Speaks HTTP to one bucket without Google's client."""

    def __init__(self, server: FakeGcs) -> None:
        self.server = server
        self.proxy = server.proxy
        self.bucket = server.bucket()
        self.proxy.reset()

    def ask(
        self, verb: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.proxy.server_port, timeout=30)
        try:
            connection.request(verb, path.format(bucket=f"/storage/v1/b/{self.bucket}"), body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def insert(self, name: str, content: bytes, query: str = "", checksum: int | None = None) -> int:
        told = google_crc32c.value(content) if checksum is None else checksum
        description = {"name": name, "crc32c": base64.b64encode(told.to_bytes(4, "big")).decode()}
        head = f"--b\r\ncontent-type: application/json\r\n\r\n{json.dumps(description)}\r\n--b\r\n\r\n".encode()
        headers = {"Content-Type": "multipart/related; boundary=b"}
        path = f"/upload{{bucket}}/o?uploadType=multipart{query}"
        return self.ask("POST", path, head + content + b"\r\n--b--", headers)[0]

    def read(self, name: str) -> tuple[int, bytes]:
        return self.ask("GET", f"/download{{bucket}}/o/{quote(name, safe='')}?alt=media")

    def generation(self, name: str) -> int:
        status, answer = self.ask("GET", f"{{bucket}}/o/{name}")
        assert status == 200
        return int(json.loads(answer)["generation"])


@pytest.fixture
def caller(emulated_gcs: FakeGcs) -> Caller:
    return Caller(emulated_gcs)


def test_an_object_is_made_once_under_the_condition_that_there_is_none(caller: Caller) -> None:
    assert caller.insert("a", b"one", "&ifGenerationMatch=0") == 200
    assert caller.insert("a", b"two", "&ifGenerationMatch=0") == 412
    assert caller.read("a") == (200, b"one")
    assert caller.insert("a", b"two") == 200
    assert caller.read("a") == (200, b"two")


def compose(caller: Caller, name: str, *sources: str) -> int:
    body = json.dumps({"sourceObjects": [{"name": source} for source in sources], "destination": {}}).encode()
    return caller.ask("POST", f"{{bucket}}/o/{name}/compose?ifGenerationMatch=0", body)[0]


def test_composing_obeys_its_condition_and_one_of_many_at_once_wins(caller: Caller) -> None:
    caller.insert("x", b"1")
    caller.insert("y", b"2")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: compose(caller, "whole", "x", "y"), range(16)))
    assert sorted(answers) == [200] + [412] * 15
    assert caller.read("whole") == (200, b"12")


def test_deleting_and_reading_obey_their_conditions(caller: Caller) -> None:
    caller.insert("a", b"one")
    generation = caller.generation("a")
    for verb in ("GET", "DELETE"):
        assert caller.ask(verb, f"{{bucket}}/o/a?ifGenerationMatch={generation + 1}")[0] == 412
        assert caller.ask(verb, f"{{bucket}}/o/a?ifGenerationMatch={generation}")[0] in (200, 204)
    assert caller.ask("GET", "{bucket}/o/a?ifGenerationMatch=0")[0] == 404
    assert caller.read("a")[0] == 404


def test_an_upload_whose_checksum_does_not_fit_is_refused(caller: Caller) -> None:
    assert caller.insert("a", b"one", checksum=1) == 400
    assert caller.read("a")[0] == 404


def test_a_buckets_settings_are_remembered(caller: Caller) -> None:
    settings = json.dumps({"labels": {"a": "b"}, "lifecycle": {"rule": []}}).encode()
    assert caller.ask("PATCH", "{bucket}", settings)[0] == 200
    status, answer = caller.ask("GET", "{bucket}")
    told = json.loads(answer)
    assert (status, told["name"], told["labels"], told["lifecycle"]) == (200, caller.bucket, {"a": "b"}, {"rule": []})


def test_requests_and_bytes_are_counted_by_method(caller: Caller) -> None:
    caller.insert("dir/a b", b"x" * 1000, "&ifGenerationMatch=0")
    caller.read("dir/a b")
    caller.ask("GET", "{bucket}/o/dir%2Fa%20b")
    caller.ask("GET", "{bucket}/o?prefix=dir/")
    compose(caller, "c", "dir/a b")
    caller.ask("DELETE", "{bucket}/o/c")
    caller.ask("GET", "{bucket}")
    assert caller.proxy.calls == {
        "objects.insert": 1,
        "objects.get media": 1,
        "objects.get": 1,
        "objects.list": 1,
        "objects.compose": 1,
        "objects.delete": 1,
        "buckets.get": 1,
    }
    inserted = caller.proxy.asked[0]
    assert (inserted.bucket, inserted.object, inserted.query["ifGenerationMatch"]) == (caller.bucket, "dir/a b", "0")
    assert 1000 < caller.proxy.received["objects.insert"] < 1300
    assert caller.proxy.asked[1].object == "dir/a b"


def test_a_refused_request_is_not_carried_out_and_a_fault_is_used_up(caller: Caller) -> None:
    caller.proxy.faults.append(Fault(method="objects.insert", status=429, reason="rateLimitExceeded", times=2))
    assert [caller.insert("a", b"one") for _ in range(3)] == [429, 429, 200]
    caller.proxy.faults.append(Fault(method="objects.get media", status=403, message="No.", named="b"))
    assert caller.read("a")[0] == 200
    status, answer = caller.read("b")
    error = json.loads(answer)["error"]
    assert (status, error["code"], error["message"], error["errors"][0]["reason"]) == (403, 403, "No.", "backendError")


@pytest.mark.parametrize(("effect", "stands"), [(Effect.CUT, False), (Effect.LOST, True)])
def test_a_connection_is_cut_before_or_after_an_upload_was_carried_out(
    caller: Caller, effect: Effect, stands: bool
) -> None:
    caller.proxy.faults.append(Fault(method="objects.insert", effect=effect))
    with pytest.raises((HTTPException, OSError)):
        caller.insert("a", b"x" * 100_000)
    assert (caller.read("a")[0] == 200) is stands


def test_a_download_is_cut_in_its_middle(caller: Caller) -> None:
    caller.insert("a", b"x" * 100_000)
    caller.proxy.faults.append(Fault(method="objects.get media", effect=Effect.CUT))
    with pytest.raises(IncompleteRead) as caught:
        caller.read("a")
    assert len(caught.value.partial) == 50_000
    assert caller.read("a") == (200, b"x" * 100_000)


def test_what_was_ordered_is_forgotten_by_a_reset(caller: Caller) -> None:
    caller.proxy.faults.append(Fault(method=".*", times=10))
    caller.proxy.reset()
    assert caller.insert("a", b"one") == 200
    assert len(caller.proxy.asked) == 1
