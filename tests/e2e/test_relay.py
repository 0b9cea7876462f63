"""Agents that are given the address of a relay and a token, and nothing else of the submitter's machine."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeq.relay_wire import Address
from tests.homes import Home, eventually
from tests.relays import Tunnel

ALL_OF_IT = "KUBEQ_AGENT_"


class Elsewhere:
    """Machines elsewhere, each a folder of its own: agents started with the lines of `kubeq agent --relay`."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.agents: list[subprocess.Popen[bytes]] = []

    def start(self, job: str, address: Address | None = None, **changes: str) -> subprocess.Popen[bytes]:
        """An agent of the job's pool, whose relay is at that address."""
        machine = self.folder / f"machine-{len(self.agents)}"
        machine.mkdir(parents=True)
        line = shlex.split(self.home.run("agent", "--relay", job).stdout)
        variables = dict(word.split("=", 1) for word in line[1:] if word.split("=")[0].isupper() and "=" in word)
        token = machine / "token"
        token.write_bytes(Path(variables["KUBEQ_AGENT_TOKEN_FILE"]).read_bytes())
        own = {"STATE": str(machine / "state"), "CACHE": str(machine / "cache"), "TOKEN_FILE": str(token)}
        own |= {"LOG": str(machine / f"state/nodes/{variables['KUBEQ_AGENT_NODE']}/agent.log"), "POLL": "0.5"}
        if address is not None:
            own |= {"QUEUE": address.url, "STORE": address.url}
        told = {**variables, **{ALL_OF_IT + name: value for name, value in {**own, **changes}.items()}}
        if address is not None:
            assert str(self.home.state) not in json.dumps(told), "it is told nothing of the state folder"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBEQ_", "XDG_"))}
        with (machine / "agent.out").open("wb") as printed:
            agent = subprocess.Popen(
                line[-3:], env={**kept, **told}, cwd=machine, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed
            )
        self.agents.append(agent)
        return agent

    def end(self) -> None:
        for agent in self.agents:
            if agent.poll() is None:
                agent.send_signal(signal.SIGCONT)
                agent.terminate()
        for agent in self.agents:
            try:
                agent.wait(20)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


@pytest.fixture
def elsewhere(home: Home, tmp_path: Path) -> Iterator[Elsewhere]:
    one = Elsewhere(home, tmp_path / "elsewhere")
    yield one
    one.end()


@pytest.fixture
def far(home: Home, tmp_path: Path) -> Iterator[Elsewhere]:
    """The same, with leases so short that outages can be longer."""
    home.env["KUBEQ_LEASE"] = "4"
    one = Elsewhere(home, tmp_path / "elsewhere")
    yield one
    one.end()


@pytest.fixture
def tunnel(home: Home) -> Iterator[Tunnel]:
    """A port at whose other end is the home's relay."""
    one = Tunnel(home.state / "relay/socket")
    yield one
    one.close()


def prepared(home: Home, *arguments: str) -> str:
    """A job for which no node of this machine is started."""
    return home.run("-q", "sub", "--no-wait", "--prepare", *arguments).stdout.strip()


def witness(home: Home, seconds: float) -> list[str]:
    """A command that notes each start of an attempt where the test sees it."""
    note = home.root / "witness"
    script = f"echo $KUBEQ_TASK_INDEX.$KUBEQ_ATTEMPT >> {note}; sleep {seconds}; echo $KUBEQ_ATTEMPT > who; echo end"
    return ["sh", "-c", script]


def witnessed(home: Home) -> list[str]:
    path = home.root / "witness"
    return sorted(path.read_text().split()) if path.exists() else []


def ended(home: Home, job: str) -> Callable[[], Any]:
    return lambda: home.status(job)["status"] == "succeeded"


def test_a_job_runs_on_a_machine_that_knows_the_relays_address_and_a_token_only(
    home: Home, elsewhere: Elsewhere, tunnel: Tunnel
) -> None:
    (home.cwd / "in").mkdir()
    (home.cwd / "in/data").write_text("staged " * 100_000)
    script = "wc -c < in/data; cat in/data in/data > out; echo {index}"
    job = prepared(home, "--image", "none", "-u", "in", "--seq", "6", "sh", "-c", script)
    elsewhere.start(job, tunnel.address)
    eventually(ended(home, job), "the job ends", home)
    home.run("fetch", job, "results")
    for index in range(1, 7):
        assert (home.cwd / f"results/{index}/stdout.txt").read_text() == f"700000\n{index}\n"
        assert (home.cwd / f"results/{index}/out").stat().st_size == 1_400_000
    assert not (home.state / "nodes").exists(), "no node of this machine took part"
    assert {task["attempt"] for task in home.tasks(job)} == {1}


def test_a_container_runs_behind_a_relay(home: Home, elsewhere: Elsewhere, tunnel: Tunnel, base_image: str) -> None:
    job = prepared(home, "--image", base_image, "--seq", "3", "sh", "-c", "echo from {index}; id -u > who")
    elsewhere.start(job, tunnel.address)
    eventually(ended(home, job), "the job ends", home)
    home.run("fetch", job, "results")
    assert [(home.cwd / f"results/{n}/stdout.txt").read_text() for n in (1, 2, 3)] == [f"from {n}\n" for n in (1, 2, 3)]


def test_the_relay_outlives_its_terminal_shows_in_nodes_and_ends_when_nobody_needs_it(
    home: Home, elsewhere: Elsewhere
) -> None:
    job = prepared(home, "--image", "none", "sleep", "1")
    assert home.json("nodes")["relay"] is None
    agent = elsewhere.start(job, LINGER="8", LINGER_OTHERS="8")
    relay = home.relay()
    assert relay is not None
    assert os.getsid(relay) == relay, "it belongs to no terminal"
    eventually(ended(home, job), "the job ends", home)
    shown = home.json("nodes")["relay"]
    assert (shown["pid"], shown["silent_since"]) == (relay, None)
    assert len(shown["nodes"]) == 1
    eventually(lambda: "relay: up" in home.run("nodes").stdout, "it is told of", home)
    eventually(lambda: agent.poll() == 0, "the agent leaves when there is nothing to do", home)
    eventually(lambda: home.relay() is None, "the relay ends", home)
    assert home.json("nodes")["relay"] is None
    log = (home.state / "relay/relay.log").read_text()
    assert "nobody needs the relay any more" in log


def test_an_outage_shorter_than_the_lease_costs_nothing(home: Home, far: Elsewhere, tunnel: Tunnel) -> None:
    home.env["KUBEQ_LEASE"] = "20"
    job = prepared(home, "--image", "none", "-r", "cpu=2", "--seq", "2", *witness(home, 8))
    for _ in range(2):
        far.start(job, tunnel.address)
    eventually(lambda: len(witnessed(home)) == 2, "both run", home)
    tunnel.down()
    time.sleep(5)
    tunnel.up()
    eventually(ended(home, job), "the job ends", home)
    assert witnessed(home) == ["1.1", "2.1"]
    assert {(task["attempt"], task["losses"]) for task in home.tasks(job)} == {(1, 0)}


def test_outcomes_that_could_not_be_told_are_told_when_the_line_is_back(
    home: Home, far: Elsewhere, tunnel: Tunnel
) -> None:
    job = prepared(home, "--image", "none", *witness(home, 2))
    far.start(job, tunnel.address)
    eventually(lambda: witnessed(home) == ["1.1"], "it runs", home)
    tunnel.down()
    time.sleep(10)
    assert home.status(job)["status"] == "running"
    tunnel.up()
    eventually(ended(home, job), "the outcome comes late", home)
    assert witnessed(home) == ["1.1"]
    home.run("fetch", job, "results")
    assert (home.cwd / "results/1/stdout.txt").read_text() == "end\n"


def test_a_relay_that_is_killed_is_started_again_by_the_next_command_and_nothing_is_lost(
    home: Home, far: Elsewhere, tunnel: Tunnel
) -> None:
    job = prepared(home, "--image", "none", "-r", "cpu=2", "--seq", "4", *witness(home, 5))
    for _ in range(2):
        far.start(job, tunnel.address)
    eventually(lambda: len(witnessed(home)) == 2, "two run", home)
    first = home.relay()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: home.relay() is None, "it is dead", home)
    time.sleep(6)
    eventually(lambda: (home.run("status"), home.relay())[1] not in (None, first), "another is there", home)
    eventually(ended(home, job), "the job ends", home)
    assert witnessed(home) == ["1.1", "2.1", "3.1", "4.1"]
    assert {(task["attempt"], task["losses"]) for task in home.tasks(job)} == {(1, 0)}


def test_a_relay_that_was_stopped_for_longer_than_the_lease_takes_nothing_from_anybody(
    home: Home, far: Elsewhere, tunnel: Tunnel
) -> None:
    """What a laptop does that sleeps: the relay stands still, and the machines elsewhere go on."""
    job = prepared(home, "--image", "none", "-r", "cpu=2", "--seq", "3", *witness(home, 9))
    for _ in range(2):
        far.start(job, tunnel.address)
    eventually(lambda: len(witnessed(home)) == 2, "two run", home)
    relay = home.relay()
    assert relay is not None
    os.kill(relay, signal.SIGSTOP)
    time.sleep(17)
    assert "stopped or hanging" in home.run("nodes").stdout
    os.kill(relay, signal.SIGCONT)
    eventually(ended(home, job), "the job ends", home)
    assert witnessed(home) == ["1.1", "2.1", "3.1"]
    assert {(task["attempt"], task["losses"]) for task in home.tasks(job)} == {(1, 0)}
    assert home.relay() == relay


def test_a_kill_reaches_what_runs_behind_a_relay_at_once(home: Home, elsewhere: Elsewhere, tunnel: Tunnel) -> None:
    job = prepared(home, "--image", "none", *witness(home, 300))
    elsewhere.start(job, tunnel.address)
    eventually(lambda: witnessed(home) == ["1.1"], "it runs", home)
    began = time.monotonic()
    home.run("kill", job)
    eventually(lambda: home.stands(job) == "cancelled", "it is cancelled", home)
    assert time.monotonic() - began < 20.0, "and not a third of a lease later"


def test_a_machine_that_dies_loses_its_tasks_to_another_one_behind_the_relay(
    home: Home, far: Elsewhere, tunnel: Tunnel
) -> None:
    job = prepared(home, "--image", "none", *witness(home, 6))
    victim = far.start(job, tunnel.address)
    eventually(lambda: witnessed(home) == ["1.1"], "it runs", home)
    far.start(job, tunnel.address)
    victim.kill()
    eventually(ended(home, job), "it runs again elsewhere", home)
    (task,) = home.tasks(job)
    assert (task["attempt"], task["losses"]) == (2, 1)


def test_a_token_that_is_worth_nothing_is_said_to_be(home: Home, elsewhere: Elsewhere) -> None:
    job = prepared(home, "--image", "none", "true")
    nobody = home.root / "nobody"
    nobody.write_text("nobody:" + "0" * 64)
    elsewhere.start(job, TOKEN_FILE=str(nobody))
    log = elsewhere.folder / "machine-0"
    eventually(
        lambda: any("does not know this node" in path.read_text() for path in log.rglob("agent.log")),
        "it is told",
        home,
    )
    assert home.status(job)["status"] == "queued"
