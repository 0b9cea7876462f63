"""The program that fetches the archive on a machine that has nothing but Python; S3 and the metadata service are a
small HTTP server of this test, and the SDK's own signer is the judge of the signature.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kubeq.core.digest import Digest
from kubeq.nodes import fetching
from kubeq.nodes.fetching import Identity, address, fetch, identity, main, signed

CONTENT = b"the archive" * 1000
DIGEST = str(Digest.of(CONTENT))
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
ROLE = {"AccessKeyId": "ASIAROLE", "SecretAccessKey": "secret-of-the-role", "Token": "token-of-the-role"}


class Server(ThreadingHTTPServer):
    """Answers as told and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.objects: dict[str, bytes] = {}
        self.failures: list[tuple[int, dict[str, str]]] = []
        self.has_role = True
        self.role = json.dumps(ROLE).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_PUT(self) -> None:
        self._note()
        self._answer(200 if self.path == "/latest/api/token" else 405, b"session")

    def do_GET(self) -> None:
        self._note()
        if self.path.startswith("/latest/meta-data/"):
            self._metadata(self.path.removeprefix("/latest/meta-data/"))
        elif self.server.failures:
            code, headers = self.server.failures.pop(0)
            self._answer(code, b"", headers)
        else:
            content = self.server.objects.get(self.path)
            self._answer(404 if content is None else 200, content or b"")

    def _metadata(self, path: str) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "session":
            return self._answer(401, b"")
        role = {"iam/security-credentials/": b"node", "iam/security-credentials/node": self.server.role}
        known = {**(role if self.server.has_role else {}), "placement/region": b"eu-north-1"}
        return self._answer(200 if path in known else 404, known.get(path, b""))

    def _note(self) -> None:
        self.server.asked.append((self.command, self.path, {name.lower(): text for name, text in self.headers.items()}))

    def _answer(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        one.objects["/bucket/a/blobs/x%20y.pyz"] = CONTENT
        yield one
        one.shutdown()


def environment(server: Server, **more: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL_S3": server.url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url, **more}


URL = "s3://bucket/a/blobs/x%20y.pyz"


@pytest.mark.parametrize("token", ["", "a/token+of=a role"])
@pytest.mark.parametrize("url", ["https://b.s3.eu-west-1.amazonaws.com/a/b%20c~d.pyz", "http://127.0.0.1:9000/b/k"])
def test_a_request_is_signed_as_the_sdk_signs_it(url: str, token: str) -> None:
    now = 1_767_323_045.0
    whom = Identity("AKIDEXAMPLE", "wJalrXUtnFEMI", token, "eu-west-1")
    ours = {name.lower(): value for name, value in signed(url, whom, now).header_items()}
    theirs = AWSRequest("GET", url)
    theirs.context["payload_signing_enabled"] = True

    class Then(S3SigV4Auth):
        def _modify_request_before_signing(self, request: AWSRequest) -> None:
            request.context["timestamp"] = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
            super()._modify_request_before_signing(request)

    signer = Then(Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI", token or None), "s3", "eu-west-1")
    theirs.context["timestamp"] = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(theirs)
    canonical = signer.canonical_request(theirs)
    signature = signer.signature(signer.string_to_sign(theirs, canonical), theirs)
    assert ours["authorization"].rpartition("Signature=")[2] == signature


def test_objects_are_where_s3_has_them() -> None:
    assert address("s3://b/k", "eu-west-1", {}) == "https://b.s3.eu-west-1.amazonaws.com/k"
    assert address("s3://b.c/k", "eu-west-1", {}) == "https://s3.eu-west-1.amazonaws.com/b.c/k"
    assert address("s3://b/k", "cn-north-1", {}) == "https://b.s3.cn-north-1.amazonaws.com.cn/k"
    assert address("s3://b/k", "x", {"AWS_ENDPOINT_URL": "http://h:1/"}) == "http://h:1/b/k"


def test_the_machine_reads_as_itself(server: Server, tmp_path: Path) -> None:
    fetch(URL, tmp_path / "new/archive.pyz", DIGEST, environment(server))
    assert (tmp_path / "new/archive.pyz").read_bytes() == CONTENT
    method, path, headers = server.asked[-1]
    assert (method, path, headers["x-amz-security-token"]) == ("GET", "/bucket/a/blobs/x%20y.pyz", ROLE["Token"])
    assert "Credential=ASIAROLE/" in headers["authorization"]
    assert "/eu-north-1/s3/" in headers["authorization"]


def test_the_environments_keys_go_before_the_machines_role(server: Server, tmp_path: Path) -> None:
    fetch(URL, tmp_path / "archive.pyz", DIGEST, environment(server, AWS_REGION="eu-west-3", **KEYS))
    assert [path for _, path, _ in server.asked] == ["/bucket/a/blobs/x%20y.pyz"]
    assert "Credential=AKIDEXAMPLE/" in server.asked[0][2]["authorization"]


def test_what_is_there_already_is_not_fetched_and_what_is_wrong_there_is(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "archive.pyz"
    place.write_bytes(CONTENT)
    fetch(URL, place, DIGEST, environment(server, **KEYS))
    assert server.asked == []
    place.write_bytes(CONTENT[:-1])
    fetch(URL, place, DIGEST, environment(server, **KEYS))
    assert place.read_bytes() == CONTENT


def test_other_bytes_than_those_of_the_digest_are_refused(server: Server, tmp_path: Path) -> None:
    server.objects["/bucket/a/blobs/x%20y.pyz"] = CONTENT[:-1] + b"!"
    with pytest.raises(ValueError, match="holds other bytes"):
        fetch(URL, tmp_path / "archive.pyz", DIGEST, environment(server, **KEYS))
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_elsewhere_is_asked_there(server: Server, tmp_path: Path) -> None:
    server.failures = [(301, {"x-amz-bucket-region": "ap-south-1"})]
    fetch(URL, tmp_path / "archive.pyz", DIGEST, environment(server, AWS_REGION="eu-west-1", **KEYS))
    assert "/ap-south-1/s3/" in server.asked[-1][2]["authorization"]


def test_a_machine_without_any_identity_is_told_so(server: Server) -> None:
    server.has_role = False
    with pytest.raises(OSError, match="it has no role"):
        identity(environment(server))
    with pytest.raises(OSError, match="no role of its own, and the environment names no key"):
        identity({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"})


@pytest.mark.parametrize("said", [b'{"Code": "AssumeRoleUnauthorizedAccess"}', b"<html>", b"[]", b'"x"'])
def test_a_role_that_has_no_keys_yet_is_asked_again(server: Server, tmp_path: Path, said: bytes) -> None:
    server.role = said

    def attached(_: float) -> None:
        server.role = json.dumps(ROLE).encode()

    main([URL, str(tmp_path / "archive.pyz"), DIGEST], environment(server), attached)
    assert (tmp_path / "archive.pyz").read_bytes() == CONTENT


def test_what_cannot_be_put_in_its_place_leaves_nothing(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "archive.pyz"
    place.mkdir()
    with pytest.raises(OSError, match="archive"):
        fetch(URL, place, DIGEST, environment(server, **KEYS))
    assert list(tmp_path.iterdir()) == [place]


def test_it_tries_again_for_a_minute_and_then_says_why(server: Server, tmp_path: Path) -> None:
    pauses: list[float] = []
    server.failures = [(503, {})] * 2
    words = [URL, str(tmp_path / "archive.pyz"), DIGEST]
    main(words, environment(server, **KEYS), pauses.append)
    assert pauses == [1.0, 2.0]
    pauses.clear()
    server.failures = [(403, {})] * fetching.TRIES
    with pytest.raises(SystemExit) as ended:
        main([words[0], str(tmp_path / "again.pyz"), words[2]], environment(server, **KEYS), pauses.append)
    assert (ended.value.code, sum(pauses)) == (6, 63.0)


def test_as_a_program_it_needs_nothing_but_python_and_prints_no_credential(server: Server, tmp_path: Path) -> None:
    program = Path(fetching.__file__).read_text()
    place = tmp_path / "archive.pyz"

    def run(digest: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.base_prefix) / "bin/python3", "-S", "-", URL, str(place), digest],
            input=program,
            env=environment(server, **KEYS),
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert run(DIGEST).returncode == 0
    assert place.read_bytes() == CONTENT
    done = run(str(Digest.of(b"another")))
    assert done.returncode == 7
    assert done.stderr.startswith("error: the agent archive is not the one that was stored")
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stderr + done.stdout
