"""What can befall hosts, the way to them and whoever waits for them; nothing is lost, and nothing is recorded twice."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.ssh import addresses, keys_on, leave, one_slot_each, ssh_home
from tests.homes import Home, eventually
from tests.stand_ins.line import slow_line
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
def frozen(host: Host) -> Iterator[None]:
    host.freeze()
    try:
        yield
    finally:
        host.thaw()


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


def losses(home: Home, job: str) -> list[int]:
    """What nodes that fell silent have cost each task. (An attempt that gave way to another node costs nothing.)"""
    return [task["losses"] for task in home.tasks(job)]


@dataclass(frozen=True)
class Gate:
    """What a command on a host waits for; opened host by host."""

    path: str

    @property
    def wait(self) -> str:
        """The shell that says that it is there, and waits."""
        return f"echo $KUBEQ_TASK_INDEX >> {self.path}.begun; until [ -e {self.path} ]; do sleep 0.1; done"

    def begun(self, host: Host) -> list[int]:
        """The tasks that have come to it on the host, in order."""
        return [int(word) for word in host.run("sh", "-c", f"cat {self.path}.begun 2>/dev/null; :").split()]

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
            time.sleep(6)
        home.run("watch", job)
        assert losses(home, job) == [0, 0, 0, 0]
        assert home.status(job)["tasks"]["succeeded"] == 4


def test_hosts_that_are_away_for_longer_than_a_lease_are_replaced_and_cannot_spoil_anything(
    impatient: Home, hosts: list[Host], gate: Gate
) -> None:
    unplugged, icy, other = hosts
    alone = impatient.submit("--hosts", one_slot_each(impatient, [icy]), "--shell", f"{gate.wait}; hostname > by")
    eventually(lambda: gate.begun(icy), "it runs where nobody could take over", impatient)
    shared = Gate(f"{gate.path}-shared")
    job = impatient.submit(
        "--hosts", one_slot_each(impatient, hosts), "--seq", "3", "--shell", f"{shared.wait}; hostname > by"
    )
    eventually(lambda: all(shared.begun(host) for host in hosts), "it runs on all", impatient)
    lost = {*shared.begun(unplugged), *shared.begun(icy)}
    with cut(unplugged), frozen(icy):
        shared.open(unplugged, other)
        impatient.run("watch", job)
        assert losses(impatient, job) == [int(index in lost) for index in (1, 2, 3)]
        assert impatient.status(alone)["status"] == "running"
    gate.open(icy)
    shared.open(icy)
    impatient.run("watch", alone)
    assert losses(impatient, alone) == [0], "a late result that nobody superseded is the result"
    leave(impatient, hosts)
    impatient.run("fetch", job, "out")
    assert {(impatient.cwd / f"out/{index}/by").read_text().strip() for index in (1, 2, 3)} == {other.name}


def known_nodes(home: Home) -> list[str]:
    """The nodes that have said what they have."""
    return [node["name"] for node in home.json("nodes")["nodes"] if node["slots"]]


def test_work_goes_on_after_its_only_host_was_rebooted(impatient: Home, hosts: list[Host], gate: Gate) -> None:
    host = hosts[2]
    where = one_slot_each(impatient, [host])
    waiting = impatient.start("sub", "--hosts", where, "--seq", "3", "--shell", f"{gate.wait}; echo done")
    eventually(lambda: gate.begun(host) and known_nodes(impatient), "it runs, and its node is known", impatient)
    with powered_off(host):
        [node] = impatient.json("nodes")["nodes"]
        assert node["state"] == "active", "for all that is known it may be well"
        assert "cannot be reached" in node["because"] or "did not answer" in node["because"]
    gate.open(host)
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, out + err
    assert "has ended with work left (its host was started anew); starting another" in err
    assert sum(losses(impatient, "LAST")) == 1


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


def test_a_slow_line_that_loses_packets_only_takes_longer(user: Home, hosts: list[Host]) -> None:
    host = hosts[1]
    known = Path(user.env["KUBEQ_SSH_KNOWN_HOSTS"])
    loss = ["-p", "tcp", "-m", "statistic", "--mode", "random", "--probability", "0.03", "-j", "DROP"]
    with slow_line(host.address, 22, 0.05) as port:
        line = next(line for line in known.read_text().splitlines() if line.startswith(f"{host.address} "))
        with known.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {line.partition(' ')[2]}\n")
        (user.cwd / "input").write_bytes(b"x" * 300_000)
        for chain in ("INPUT", "OUTPUT"):
            host.run("iptables", "-A", chain, "!", "-i" if chain == "INPUT" else "-o", "lo", *loss)
        try:
            user.run(
                *("sub", "--hosts", f"127.0.0.1:{port}", "-u", "input", "--seq", "6", "--fetch", "out"),
                *("--shell", "wc -c < input"),
            )
        finally:
            host.run("iptables", "-F")
            leave(user, [host])
    assert [(user.cwd / f"out/{index}/stdout.txt").read_text() for index in range(1, 7)] == ["300000\n"] * 6
