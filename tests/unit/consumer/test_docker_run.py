"""Following a container under an engine that misbehaves as no real one can be made to: here it is a script."""

from __future__ import annotations

import json
import logging
import re
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kubeq.core.model import Exit, JobId, NodeName, TaskId
from kubeq.core.resources import Resources
from kubeq.core.spec import Network
from kubeq.machine import mark_of, own_mark
from kubeq_consumer.runtimes.base import Execution
from kubeq_consumer.runtimes.docker import DockerRuntime
from kubeq_consumer.runtimes.docker_engine import Engine
from kubeq_consumer.runtimes.docker_run import DockerRunning, Parts
from kubeq_consumer.runtimes.docker_stream import TaskOutput
from kubeq_consumer.runtimes.sampler import Sampler

PATIENCE_S = 30
UNKILLABLE = "c" * 64


class Script(socketserver.ThreadingUnixStreamServer):
    """An engine in which nothing that runs can be ended or removed. `labels` are those of its containers, by id."""

    daemon_threads = True

    def __init__(self, place: Path) -> None:
        self.labels: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.late = threading.Event()
        super().__init__(str(place), Answers)


class Answers(BaseHTTPRequestHandler):
    server: Script
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self._noted()
        if path == "/_ping":
            self._answer(200, "OK")
        elif path == "/containers/json":
            self._answer(200, [{"Id": name, "Labels": labels} for name, labels in self.server.labels.items()])
        else:
            self._answer(200, {"State": {"Running": True, "Status": "running"}})

    def do_POST(self) -> None:
        path = self._noted()
        if path.endswith("/attach"):
            self._stream()
        elif path.endswith("/kill"):
            self._answer(500 if "KILL" in parse_qs(urlsplit(self.path).query)["signal"][0] else 204, {"message": "no"})
        elif path.endswith("/wait"):
            self.server.late.wait(PATIENCE_S)
            self._answer(200, {"StatusCode": 137})

    def do_DELETE(self) -> None:
        self._noted()
        self._answer(500, {"message": "could not kill: tried to kill container, but did not receive an exit event"})

    def _noted(self) -> str:
        path = re.sub(r"^/v[0-9.]+", "", urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        return path

    def _stream(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(bytes([1, 0, 0, 0, 0, 0, 0, 6]) + b"first\n")
        self.server.late.wait(PATIENCE_S)
        self.close_connection = True

    def _answer(self, status: int, document: object) -> None:
        content = b"" if status == 204 else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path / "engine.sock")
    threading.Thread(target=script.serve_forever, args=(0.01,), daemon=True).start()
    yield script
    script.late.set()
    script.shutdown()
    script.server_close()


@pytest.fixture
def runtime(script: Script, tmp_path: Path) -> Iterator[DockerRuntime]:
    runtime = DockerRuntime(uid=0, gid=0, state=tmp_path / "state", engine_url=f"unix://{tmp_path}/engine.sock")
    yield runtime
    runtime.close()


def execution(folder: Path) -> Execution:
    return Execution(
        task=TaskId(JobId("job"), 7),
        attempt=1,
        node=NodeName("node-1"),
        slot=0,
        image="image@sha256:0",
        entrypoint=None,
        command=("sleep",),
        work=folder,
        directory=".",
        environment=(),
        user=None,
        network=Network.SLOT,
        resources=Resources(),
        shm_size=None,
        mounts=(),
    )


def test_a_container_that_cannot_be_killed_is_given_up_and_named(
    script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, given_up, given_back = Engine(f"unix://{tmp_path}/engine.sock"), list[str](), list[Execution]()
    parts = Parts(
        engine=engine, sampler=Sampler(), give_back=given_back.append, give_up=given_up.append, unkillable_s=0.3
    )
    output = BytesIO()
    running = DockerRunning(parts, execution(tmp_path), UNKILLABLE, TaskOutput(output))
    running.follow(engine.attach(UNKILLABLE))
    running.settle()
    with caplog.at_level(logging.ERROR):
        running.stop(0.05)
        running.stop(0)
        assert running.wait(PATIENCE_S) == Exit(vanished=True)
    assert UNKILLABLE in caplog.text and "does not end" in caplog.text
    deadline = time.monotonic() + PATIENCE_S
    while any(thread.name.endswith(str(running.task)) for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "its threads go on"
        time.sleep(0.01)
    asked = len(script.asked)
    running.remove()
    running.stop(0)
    assert script.asked[asked:] == [f"DELETE /containers/{UNKILLABLE}"], "nobody tries to stop it any more"
    assert running.wait(0) == Exit(vanished=True)
    assert set(given_up) == {UNKILLABLE} and given_back == []
    assert output.getvalue() == b"first\n"
    engine.close()


def test_leftovers_cost_one_request_and_are_looked_up_anew(script: Script, runtime: DockerRuntime) -> None:
    sibling = subprocess.Popen(["sleep", "300"])
    mark = mark_of(sibling.pid)
    for name, agent in (("mine", own_mark()), ("siblings", mark), ("strange", "no mark")):
        script.labels[name] = {"kubeq.agent": str(agent), "kubeq.node": name, "kubeq.job": "job", "kubeq.task": "1"}
    assert runtime.leftovers() == []
    sibling.kill()
    sibling.wait()
    script.asked.clear()
    assert [leftover.node for leftover in runtime.leftovers()] == ["siblings"]
    assert script.asked == ["GET /containers/json"]


def test_what_this_agent_could_not_remove_is_a_leftover_although_it_lives(
    script: Script, runtime: DockerRuntime
) -> None:
    script.labels[UNKILLABLE] = {"kubeq.agent": str(own_mark()), "kubeq.node": "n", "kubeq.job": "j", "kubeq.task": "1"}
    assert runtime.leftovers() == []
    runtime._given_up.add(UNKILLABLE)
    assert [leftover.container for leftover in runtime.leftovers()] == [UNKILLABLE]
