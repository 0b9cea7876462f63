"""An emulated EC2 for tests: instances that are records alone, or containers that boot; what can befall both.

moto keeps the account, `ec2_server` adds what it lacks, `ec2_machine` is what an instance runs on. Signatures,
permissions and security groups are not enforced.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import docker
import pytest

from kubeq import aws
from kubeq.errors import BackendError
from kubeq.machine import own_mark
from kubeq.metering import Meter
from tests.stand_ins.base import Server, installed, serving
from tests.stand_ins.forwarding import forwarded
from tests.stand_ins.ssh_hosts import LABEL, own_network, remove_orphans

REQUIREMENTS = ("moto==5.2.5", "flask==3.1.3", "flask-cors==6.0.5", "pyyaml==6.0.4", "docker==7.1.0")
"""What its server needs for these services: half of what `moto[server]` brings."""
REGION = "eu-west-1"
SERVER = Path(__file__).with_name("ec2_server.py")
SERVICES = ("EC2", "IAM", "SSM", "SERVICE_QUOTAS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2Cloud:
    """An emulated account: what a process needs in its environment to use it, and the orders that a test gives."""

    url: str
    environment: Mapping[str, str]

    def faults(self, **faults: Any) -> None:
        """From now on this goes wrong (`ec2_server.Faults` says what can)."""
        self._order("faults", faults)

    def preempt(self, *nodes: str, notice_s: float = 0.0) -> None:
        """The machines of those nodes are taken back, so many seconds after they were told."""
        self._order("preempt", {"nodes": nodes, "notice_s": notice_s})

    def machines(self, state: str | None = None) -> list[dict[str, Any]]:
        """All instances there ever were, or those in that state, without asking the emulated service."""
        found: list[dict[str, Any]] = self._order("machines", {})
        return [one for one in found if state in (None, one["state"])]

    def standing(self) -> list[str]:
        """The nodes whose machines still cost money."""
        return sorted(one["tags"]["kubeq-node"] for one in self.machines() if one["state"] != "terminated")

    def calls(self) -> Mapping[str, int]:
        """How many requests of each operation there were."""
        counted: dict[str, int] = self._order("calls", {})
        return counted

    def launches(self) -> Sequence[Mapping[str, str]]:
        """What RunInstances was asked for, as it was sent."""
        sent: list[dict[str, str]] = self._order("requests", {})
        return sent

    def console(self, node: str) -> str:
        """What the node's machine has printed so far."""
        printed: dict[str, str] = self._order("consoles", {})
        return printed.get(node, "")

    def reset(self) -> None:
        """As if nothing had ever been; machines are gone at once."""
        self._order("reset", {})
        with urlopen(Request(f"{self.url}/moto-api/reset", method="POST"), timeout=60):
            pass

    def _order(self, order: str, told: Mapping[str, Any]) -> Any:
        request = Request(f"{self.url}/_stand-in/{order}", data=json.dumps(told).encode(), method="POST")
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def emulated_ec2(folder: Path, *machines: str) -> Iterator[Ec2Cloud]:
    """An account of one's own; `machines` are the words that make its instances boot (see `ec2_server`)."""
    python = installed(*REQUIREMENTS) / "python"
    environment = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST") if name in os.environ}
    command = [str(python), str(SERVER)]
    with serving(lambda port: [*command, str(port), *machines], lambda _: environment, _answers, folder) as server:
        cloud = _cloud(server)
        try:
            yield cloud
        finally:
            cloud.reset()


@contextmanager
def booting_ec2(folder: Path, image: str, images: Sequence[str], ports: Sequence[int]) -> Iterator[Ec2Cloud]:
    """An account of one's own whose instances boot: of that image, with those task images, reaching those ports."""
    client = docker.from_env(timeout=120)
    remove_orphans(client)
    network = own_network(client, secrets.token_hex(3))
    saved = folder / "images.tar"
    subprocess.run(["docker", "save", "-o", saved, *images], check=True, capture_output=True)
    try:
        with forwarded(ports) as outside:
            words = (image, network.name, LABEL, str(own_mark()), str(outside), str(saved))
            with emulated_ec2(folder, *words) as cloud:
                yield cloud
    finally:
        for container in client.containers.list(all=True, filters={"network": network.name}):
            container.remove(force=True, v=True)
        network.remove()
        client.close()


@pytest.fixture(scope="session")
def ec2_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ec2Cloud]:
    """The emulated EC2 of this test process, whose instances run nothing."""
    with emulated_ec2(tmp_path_factory.mktemp("ec2")) as cloud:
        yield cloud


@pytest.fixture
def ec2_account(ec2_records: Ec2Cloud, monkeypatch: pytest.MonkeyPatch) -> Ec2Cloud:
    """The same as new; during the test every client that is made uses it."""
    for name, value in ec2_records.environment.items():
        monkeypatch.setenv(name, value)
    ec2_records.reset()  # and not afterwards too: it takes half a second, and the account goes with its process
    return ec2_records


def _cloud(server: Server) -> Ec2Cloud:
    own = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    there = {f"AWS_ENDPOINT_URL_{service}": server.url for service in SERVICES}
    return Ec2Cloud(url=server.url, environment=there | own | {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION})


def _answers(server: Server) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _cloud(server).environment.items():
            patch.setenv(name, value)
        try:
            with aws.plainly("ec2", "the stand-in"):
                aws.client("ec2", REGION, Meter()).describe_vpcs()
        except BackendError:
            return False
    return True
