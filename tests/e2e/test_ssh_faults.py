"""What can befall hosts, the way to them and whoever waits for them; nothing is lost, and nothing is recorded twice."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.ssh import addresses, keys_on, ssh_home
from tests.homes import Home, eventually
from tests.stand_ins.ssh_hosts import Host

pytestmark = pytest.mark.docker


@pytest.fixture
def impatient(tmp_path: Path, hosts: list[Host]) -> Iterator[Home]:
    """The home of somebody whose leases are short."""
    with ssh_home(tmp_path / "impatient", hosts, KUBEQ_LEASE="5") as one:
        yield one


@contextmanager
def cut(host: Host) -> Iterator[None]:
    host.cut()
    try:
        yield
    finally:
        host.mend()


@contextmanager
def powered_off(host: Host) -> Iterator[None]:
    host.power_off()
    try:
        yield
    finally:
        host.power_on()


def busy(home: Home, job: str, tasks: int) -> None:
    """Until so many tasks run."""
    eventually(
        lambda: sum(task["state"] == "claimed" and task["node"] is not None for task in home.tasks(job)) >= tasks,
        f"{tasks} tasks run",
        home,
    )


def attempts(home: Home, job: str) -> list[int]:
    return [task["attempt"] for task in home.tasks(job)]


@dataclass(frozen=True)
class Gate:
    """What a command on a host waits for; opened host by host."""

    path: str

    @property
    def wait(self) -> str:
        """The shell that waits for it."""
        return f"until [ -e {self.path} ]; do sleep 0.1; done"

    def open(self, *hosts: Host) -> None:
        for host in hosts:
            host.run("touch", self.path)


@pytest.fixture
def gate() -> Gate:
    return Gate(f"/tmp/gate-{secrets.token_hex(4)}")


def test_a_cut_that_is_shorter_than_the_lease_costs_no_attempt(tmp_path: Path, hosts: list[Host], gate: Gate) -> None:
    with ssh_home(tmp_path / "home", hosts, KUBEQ_LEASE="40") as home:
        job = home.submit("--hosts", addresses(hosts[:2]), "--seq", "4", "--shell", f"{gate.wait}; echo done")
        busy(home, job, 4)
        with cut(hosts[0]):
            gate.open(*hosts[:2])
            time.sleep(10)
        home.run("watch", job)
        assert attempts(home, job) == [1, 1, 1, 1]
        assert home.status(job)["tasks"]["succeeded"] == 4


def test_a_key_that_a_power_cut_left_is_removed_at_the_next_contact(
    impatient: Home, hosts: list[Host], gate: Gate
) -> None:
    host = hosts[2]
    job = impatient.submit("--hosts", host.address, "--shell", gate.wait)
    busy(impatient, job, 1)
    with powered_off(host):
        impatient.run("kill", job)
    assert keys_on(host) != ""
    nodes = impatient.json("nodes")["nodes"]
    assert [node["state"] for node in nodes] == ["gone"]
    assert keys_on(host) == ""
