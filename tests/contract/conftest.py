"""A runtime, the work it is given in tests, and waiting for what must come; for the suites of the Runtime protocol."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from kubeq.core.model import Exit, JobId, NodeName, TaskId, Usage
from kubeq.core.resources import Resources
from kubeq.core.spec import Network
from kubeq_consumer.runtimes.base import Execution, Running, Runtime
from kubeq_consumer.runtimes.docker import DockerRuntime
from kubeq_consumer.runtimes.process import ProcessRuntime

PATIENCE_S = 90


class Rig:
    """One runtime and what a test asks of it."""

    def __init__(self, runtime: Runtime, image: str | None, folder: Path, make: str, label: str = "") -> None:
        self.runtime = runtime
        self.image = image
        self.folder = folder
        self.make = make
        """Python that makes such a runtime, for a process of its own."""
        self.label = label
        self._count = 0

    def pauses(self) -> list[str]:
        """The containers that keep the networks of slots."""
        listing = ["docker", "ps", "-q", "--filter", f"label={self.label}.pause"]
        return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()

    def execution(self, *command: str, **changes: Any) -> Execution:
        self._count += 1
        work = self.folder / "work" / str(self._count)
        work.mkdir(parents=True)
        plain = Execution(
            task=TaskId(JobId("job"), self._count),
            attempt=1,
            node=NodeName("node-1"),
            slot=0,
            image=self.image,
            entrypoint=None,
            command=command,
            work=work,
            directory=".",
            environment=(),
            user=None,
            network=Network.SLOT,
            resources=Resources(),
            shm_size=None,
            mounts=(),
        )
        return replace(plain, **changes)

    def run(self, execution: Execution) -> tuple[Exit, bytes, Usage]:
        output = BytesIO()
        running = self.runtime.create(execution).start(output)
        exit = running.wait(PATIENCE_S)
        usage = running.usage()
        running.remove()
        assert exit is not None, f"{execution.command} did not end; output so far: {output.getvalue()[-500:]!r}"
        return exit, output.getvalue(), usage

    def output_of(self, *command: str, **changes: Any) -> bytes:
        exit, output, _ = self.run(self.execution(*command, **changes))
        assert exit == Exit(code=0), output
        return output


def make_docker(folder: Path, engine: str, label: str, uid: int = 0, gid: int = 0) -> DockerRuntime:
    return DockerRuntime(uid=uid, gid=gid, state=folder / "state", engine_url=engine, label=label)


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    uid, gid = os.getuid(), os.getgid()
    if request.param == "process":
        made = f"ProcessRuntime(uid={uid}, gid={gid}, state=Path({str(tmp_path / 'state')!r}))"
        yield Rig(ProcessRuntime(uid=uid, gid=gid, state=tmp_path / "state"), None, tmp_path, made)
        return
    yield from docker_rig(request, tmp_path, uid, gid)


@pytest.fixture
def docker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """The Docker runtime alone, for what only a container can do."""
    yield from docker_rig(request, tmp_path, os.getuid(), os.getgid())


@pytest.fixture
def docker_as_stranger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """The Docker runtime for a submitting user who is not root."""
    yield from docker_rig(request, tmp_path, 12345, 12345)


def docker_rig(request: pytest.FixtureRequest, folder: Path, uid: int, gid: int) -> Iterator[Rig]:
    engine = request.getfixturevalue("docker_engine")
    image = request.getfixturevalue("base_image")
    label = f"kubeqtest{secrets.token_hex(4)}"
    runtime = make_docker(folder, engine, label, uid, gid)
    made = (
        f"DockerRuntime(uid={uid}, gid={gid}, state=Path({str(folder / 'state')!r}), "
        f"engine_url={engine!r}, label={label!r})"
    )
    yield Rig(runtime, runtime.resolve(image), folder, made, label)
    runtime.close()
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label={label}.agent"], capture_output=True, text=True, check=True
    )
    assert left.stdout == "", "a test left containers"


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    tick = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        tick.wait(0.02)


def started(rig: Rig, execution: Execution) -> tuple[Running, BytesIO]:
    """Running, and past its first line of output."""
    output = BytesIO()
    running = rig.runtime.create(execution).start(output)
    eventually(lambda: b"\n" in output.getvalue(), "the command's first line")
    return running, output


def test_wait_answers_none_while_the_command_runs(rig: Rig) -> None:
    running, _ = started(rig, rig.execution("sh", "-c", "echo ready; exec sleep 300"))
    assert running.wait(0.05) is None
    running.stop(0)
    assert running.wait(PATIENCE_S) == Exit(signal=9)
    running.remove()
