"""What several suites share: the Docker engine, the images of this machine, and the clouds that stand in for real ones.

A missing engine skips on a laptop and fails in CI: a suite that silently does not run proves nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from tests.stand_ins.datastore import datastore_server, emulated_datastore, open_datastore, open_live_datastore
from tests.stand_ins.ec2 import ec2_account, ec2_records
from tests.stand_ins.gce import gce
from tests.stand_ins.gcs import emulated_gcs, fake_gcs
from tests.stand_ins.ministack import emulated_aws, ministack
from tests.stand_ins.seaweedfs import seaweedfs
from tests.stand_ins.ssh_image import ssh_host_image
from tests.stand_ins.web import web

__all__ = [
    "agent_image",
    "base_image",
    "busybox_image",
    "datastore_server",
    "docker_engine",
    "ec2_account",
    "ec2_records",
    "emulated_aws",
    "emulated_datastore",
    "emulated_gcs",
    "fake_gcs",
    "gce",
    "ministack",
    "open_datastore",
    "open_live_datastore",
    "seaweedfs",
    "ssh_image",
    "web",
]
TEST_CONSUMER = "kubeq-test-consumer"
ROOT = Path(__file__).resolve().parent.parent
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Tests start kubeq some thousand times; where this is set, each start would compile all of it again."""


NEVER_AGAIN = ("tests/model/", "tests/contract/test_claims.py", "tests/contract/test_record_table.py")
"""Where a failure that comes now and then is what the tests are there to find: they get no second try."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(NEVER_AGAIN):
            item.add_marker(pytest.mark.flaky(reruns=0))


def missing(reason: str) -> NoReturn:
    """Something that a test needs cannot be had on this machine."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """The URL of an engine that answers, started if that can be done."""
    started = subprocess.run(["sh", str(ROOT / "images/engine.sh")], capture_output=True, text=True, timeout=600)
    if started.returncode != 0:
        missing(started.stderr.strip() or started.stdout.strip() or "no Docker engine")
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


@pytest.fixture(scope="session")
def base_image(docker_engine: str) -> str:
    """An image with sh, the usual tools and Python."""
    return _built()


@pytest.fixture(scope="session")
def busybox_image(docker_engine: str) -> str:
    """An image with sh and the usual tools only."""
    return _built("--minimal")


@pytest.fixture(scope="session")
def ssh_image(docker_engine: str) -> str:
    """The image of a host that one can log in to."""
    try:
        return ssh_host_image()
    except RuntimeError as error:
        missing(str(error))


@pytest.fixture(scope="session")
def agent_image(docker_engine: str) -> str:
    """The agent's image of this checkout, under a name for tests. Those of other days go; others may be in use now."""
    listing = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}\t{{.CreatedSince}}", TEST_CONSUMER]
    for line in subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines():
        name, _, age = line.partition("\t")
        if any(unit in age for unit in ("day", "week", "month", "year")):
            subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)
    return _built("--name", TEST_CONSUMER, script="images/consumer/build.py")


def _built(*options: str, script: str = "images/base/build.py") -> str:
    build = [sys.executable, str(ROOT / script), *options]
    done = subprocess.run(build, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
