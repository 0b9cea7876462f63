"""Containers on hosts with a Docker engine of their own, with and without Python; and a host that has neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ssh import addresses, leave, one_slot_each, ssh_home
from tests.homes import Home
from tests.stand_ins.ssh_hosts import Host, ssh_hosts

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def docked(ssh_image: str, busybox_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """A host with Docker and Python, one with Docker alone, one with neither."""
    own = {"plain": {"WITHOUT_PYTHON": "1"}, "bare": {"WITHOUT_PYTHON": "1", "WITHOUT_DOCKER": "1"}}
    with ssh_hosts(tmp_path_factory.mktemp("docked"), 3, names=("full", "plain", "bare"), own=own) as started:
        for host in started[:2]:
            host.wait_for_docker()
            host.load_image(busybox_image)
        yield started


@pytest.fixture
def sender(tmp_path: Path, docked: list[Host], agent_image: str) -> Iterator[Home]:
    """The home of somebody who has the agent's image."""
    with ssh_home(tmp_path / "home", docked, KUBEQ_CONSUMER_IMAGE=agent_image) as home:
        yield home


def test_containers_run_on_hosts_that_have_an_engine_and_the_agents_image_travels_once(
    sender: Home, docked: list[Host], busybox_image: str, agent_image: str
) -> None:
    full, plain, bare = docked
    (sender.cwd / "input").write_text("staged in\n")
    words = ["-i", busybox_image, "-u", "input", "--seq", "2", "--shell", "cat input; id -u; echo {index} > made"]
    first = sender.run("sub", "--hosts", one_slot_each(sender, [plain, bare]), "--fetch", "out", *words)
    assert first.stderr.count("bare: Docker, in which the tasks are to run, is not installed there") == 1
    (seen,) = sender.json("-o", f"hosts={bare.address}", "hosts", code=6)["hosts"]
    assert "the agent needs Python 3.11 or Docker, and the machine has no Python 3" in seen["problem"]
    assert (sender.cwd / "out/1/stdout.txt").read_text() == "staged in\n1000\n"
    assert [(sender.cwd / f"out/{index}/made").read_text() for index in (1, 2)] == ["1\n", "2\n"]
    leave(sender, [plain])
    sent_at = loaded_at(plain, agent_image)
    sender.run("sub", "--hosts", addresses([full, plain]), "--fetch", "again", *words)
    assert (sender.cwd / "again/2/made").read_text() == "2\n"
    assert loaded_at(plain, agent_image) == sent_at, "it is not sent a second time"
    for host in (full, plain):
        assert host.run("sh", "-c", "find /home/ada ! -user 1000 | head").strip() == ""
        assert busybox_image not in host.run("docker", "ps", "--format", "{{.Image}}")
    assert loaded_at(full, agent_image) == "", "where there is Python, no image is needed"


def loaded_at(host: Host, image: str) -> str:
    """When the image was loaded there last; empty if it never was."""
    return host.run("docker", "image", "ls", "-q", image) and host.run(
        "docker", "image", "inspect", "--format", "{{.Metadata.LastTagTime}}", image
    )
