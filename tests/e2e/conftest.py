"""Homes for tests; no agent of one is left when its test ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ssh import ssh_home
from tests.homes import Home
from tests.stand_ins.ssh_hosts import Host, ssh_hosts

LONGEST = ("test_gce.py", "test_ec2.py", "test_warm_machines.py", "test_ssh_docker.py")
"""Files of one test of a minute. They come first: begun at the end, each would keep a process busy when no other is."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    one = Home(tmp_path / "home")
    yield one
    one.end()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Home]:
    """A home whose leases are short, for tests in which agents die."""
    one = Home(tmp_path / "home", KUBEQ_LEASE="5")
    yield one
    one.end()


@pytest.fixture(scope="session")
def hosts(ssh_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Three hosts with Python and without Docker; a test that does something to one mends it again."""
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 3, environment={"WITHOUT_DOCKER": "1"}) as started:
        yield started


@pytest.fixture
def user(tmp_path: Path, hosts: list[Host]) -> Iterator[Home]:
    """The home of somebody whose key the hosts know."""
    with ssh_home(tmp_path / "home", hosts, KUBEQ_LEASE="10") as one:
        yield one
