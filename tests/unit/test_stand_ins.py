"""The harness of the stand-ins: a server is ready before it is used, gone afterwards, gone when its test is killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kubeq import aws
from kubeq.metering import Meter
from tests.stand_ins.base import PORTS, Server, free_port, serving, unavailable
from tests.stand_ins.ministack import Cloud

ROOT = Path(__file__).parents[2]
SLOW_SERVER = """
import http.server, sys, time
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
time.sleep(0.3)
server.serve_forever()
"""


def command(port: int) -> list[str]:
    return [sys.executable, "-c", SLOW_SERVER, str(port)]


def answers(server: Server) -> bool:
    try:
        with urllib.request.urlopen(server.url, timeout=0.1):
            return True
    except (OSError, urllib.error.URLError):
        return False


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_answers_inside_the_block_and_is_gone_after_it(tmp_path: Path) -> None:
    with serving(command, lambda port: {}, answers, tmp_path) as server:
        assert answers(server)
    assert server.process.poll() is not None
    assert not listening(server.port)


def test_a_server_whose_port_is_taken_gets_another(tmp_path: Path) -> None:
    first: list[int] = []

    def blocked_at_first(port: int) -> list[str]:
        first.append(port)
        return command(port) if len(first) > 1 else [sys.executable, "-c", "raise OSError('address in use')"]

    with serving(blocked_at_first, lambda port: {}, answers, tmp_path) as server:
        assert server.port == first[1] and len(first) == 2


def test_a_server_that_never_lives_is_told_with_what_it_said(tmp_path: Path) -> None:
    def dying(port: int) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no licence')"]

    with pytest.raises(RuntimeError, match="no licence"), serving(dying, lambda port: {}, answers, tmp_path):
        raise AssertionError("it was never ready")


def test_a_server_dies_with_a_test_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.stand_ins.base import serving;"
        "from tests.unit.test_stand_ins import command, answers;"
        f"server = serving(command, lambda port: {{}}, answers, Path({str(tmp_path)!r})).__enter__();"
        "print(server.process.pid, flush=True); time.sleep(600)"
    )
    path = f"{ROOT}:{ROOT / 'consumer'}"
    killed = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    server = int(killed.stdout.readline())
    killed.kill()
    killed.wait()
    killed.stdout.close()
    deadline = time.monotonic() + 30
    while running(server):
        assert time.monotonic() < deadline, "the server outlived its test"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether it is there and not merely unreaped."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def test_ports_are_below_those_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(PORTS) < 32_768 <= lowest or free_port() < lowest
    assert free_port() in PORTS


def test_what_is_missing_skips_on_a_laptop_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such server"):
        unavailable("no such server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such server"):
        unavailable("no such server")


def test_a_server_of_the_cloud_gives_what_a_process_needs_to_use_it(emulated_aws: Cloud) -> None:
    client = aws.client("s3", None, Meter())
    bucket = emulated_aws.name()
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert client.meta.endpoint_url == emulated_aws.url
    assert bucket in [found["Name"] for found in client.list_buckets()["Buckets"]]
