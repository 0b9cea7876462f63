"""The agent's image: what is in it, and what it says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import kubeq
from kubeq.actions.images import release_of_image
from kubeq.core.digest import Digest
from kubeq.errors import ImageUnavailable
from kubeq.nodes.archive import agent_archive
from kubeq.nodes.forms import image_name
from kubeq.nodes.images import packed_image
from kubeq.release import this_release

pytestmark = pytest.mark.docker
BUILD = Path(__file__).parents[2] / "images/consumer/build.py"
IMPORT = """
import sys; sys.path.insert(0, "/opt/kubeq")
import boto3, docker, google.cloud.datastore, google.cloud.storage, google_crc32c, grpc
import kubeq.aws, kubeq.gcp, kubeq_consumer.agent, kubeq_consumer.runtimes.docker
assert google_crc32c.implementation == "c"
try:
    import click
except ImportError:
    print("no click")
"""


def run(image: str, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = ["docker", "run", "--rm", "--network", "none", *options, image, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_is_named_after_this_release_and_labelled_with_it_and_the_archive(
    agent_image: str, base_image: str, tmp_path: Path
) -> None:
    assert agent_image == image_name("kubeq-test-consumer")
    asked = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", agent_image]
    labels = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    digest: Digest = agent_archive(("aws",), tmp_path).digest
    assert labels == {
        "kubeq.base": base_image,
        "kubeq.version": kubeq.__version__,
        "kubeq.release": this_release(),
        "kubeq.archive": str(digest),
    }
    assert release_of_image(agent_image) == this_release()


def test_every_backplanes_packages_are_in_it_and_nothing_of_the_command_line(agent_image: str) -> None:
    done = run(agent_image, "-c", IMPORT, options=("--entrypoint", "python3"))
    assert (done.returncode, done.stdout) == (0, "no click\n"), done.stderr


def test_it_starts_the_agent_which_finds_itself_to_be_that_release(agent_image: str) -> None:
    done = run(agent_image, options=("--env", f"KUBEQ_AGENT_RELEASE={this_release()}"))
    assert (done.returncode, done.stderr[:58]) == (2, "error: the agent cannot start: KUBEQ_AGENT_POOL is not set")
    done = run(agent_image, "--supervise", options=("--env", "KUBEQ_AGENT_RELEASE=9.9.9+0123456789ab"))
    assert done.returncode == 5
    assert done.stderr.startswith(f"error: this agent is of kubeq {this_release()}, and whoever started it wants")


def test_any_user_can_run_it(agent_image: str) -> None:
    assert run(agent_image, options=("--user", "54321:54321")).returncode == 2


def test_a_base_that_will_not_do_is_refused_in_a_line(busybox_image: str, agent_image: str) -> None:
    build = [sys.executable, BUILD, "--base", busybox_image, "--name", "never-made"]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("agent image: docker run --rm failed: ")
    assert done.stderr.count("\n") == 1


def test_it_is_packed_once_for_machines_of_a_cloud_and_older_ones_go(agent_image: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/older.tar.gz").touch()
    packed = packed_image(agent_image, tmp_path)
    made = packed.stat().st_mtime_ns
    assert (packed_image(agent_image, tmp_path), packed.stat().st_mtime_ns) == (packed, made)
    assert list(packed.parent.iterdir()) == [packed]
    loaded = subprocess.run(["docker", "load", "-q", "-i", packed], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == f"Loaded image: {agent_image}"


def test_an_image_that_is_not_here_is_not_packed(docker_engine: str, tmp_path: Path) -> None:
    with pytest.raises(ImageUnavailable, match="which this machine does not have"):
        packed_image("kubeq-nowhere:1", tmp_path)
    assert list(tmp_path.iterdir()) == []
