"""The text of a machine: what it holds, in which order, and how long it is. What it does is tried in containers."""

from __future__ import annotations

import gzip
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.core.digest import Digest
from kubeq.core.machines import Machine, Machines, Volume
from kubeq.core.model import NodeName, PoolId
from kubeq.errors import UsageError
from kubeq.nodes.archive import Archive
from kubeq.nodes.base import NodeRequest
from kubeq.nodes.forms import StoredAgent
from kubeq.nodes.machine_boot import EC2, GCE, Cloud, machine_text
from kubeq_consumer.settings import read_settings

DIGEST = Digest.of(b"agent")
ARCHIVE = StoredAgent(
    url="s3://b/it's/blobs/x",
    digest=DIGEST,
    extras=("aws",),
    archive=Archive(path=Path("/x"), digest=DIGEST, release="0.1.0", python=11),
)
IMAGE = StoredAgent(url="gs://b/my%20x/blobs/y", digest=DIGEST, extras=("gcp",), image="kubeq-consumer:0.1.0")
EC2_LIMIT = 16 * 1024
"""Bytes of user data (Amazon EC2 API, RunInstances); cloud-init unpacks what is compressed."""


def text(agent: StoredAgent = ARCHIVE, cloud: Cloud = EC2, *, spot: bool = False, **machines: object) -> str:
    store = agent.url.rpartition("/blobs/")[0]
    request = NodeRequest(
        pool=PoolId("p1"),
        queue_url="dynamodb://eu-west-1/kubeq",
        store_url=store,
        blobs_url=store,
        state_dir=Path("/home/ada/state"),
        cache_dir=Path("/home/ada/cache"),
        linger_s=600.0,
        linger_others_s=60.0,
        poll_s=3.0,
        machines=Machines(region="r", lifetime_s=7200.0, **machines),  # type: ignore[arg-type]
        agent=agent,
        environ={"AWS_REGION": "eu-west-1"},
    )
    return machine_text(request, NodeName("p1-3"), 3, Machine(type="m7i.large", zone="a", spot=spot, price=0.1), cloud)


def exported(boot: str) -> dict[str, str]:
    """What a shell makes of the lines that export something."""
    lines = "".join(line + "\n" for line in boot.splitlines() if line.startswith("export KUBEQ_AGENT_"))
    printed = subprocess.run(["sh", "-c", f"{lines} env -0"], capture_output=True, text=True, check=True, env={}).stdout
    return dict(pair.split("=", 1) for pair in printed.split("\0") if "=" in pair)


@pytest.mark.parametrize(("agent", "cloud"), [(ARCHIVE, EC2), (IMAGE, GCE)])
def test_a_text_is_whole_says_no_more_than_its_shell_can_read_and_fits(agent: StoredAgent, cloud: Cloud) -> None:
    boot = text(agent, cloud, volumes=(Volume(path="/data", size=10**11),))
    assert subprocess.run(["sh", "-n"], input=boot, capture_output=True, text=True).stderr == ""
    assert not re.findall("@[a-z0-9]+@", boot)
    assert len(gzip.compress(boot.encode())) < EC2_LIMIT / 2
    assert "/home/ada" not in boot, "nothing of the submitter's machine"


@pytest.mark.parametrize(("agent", "cloud"), [(ARCHIVE, EC2), (IMAGE, GCE)])
def test_its_end_is_armed_before_anything_is_fetched_and_metadata_closed_before_any_agent(
    agent: StoredAgent, cloud: Cloud
) -> None:
    boot = text(agent, cloud, volumes=(Volume(path="/data", size=10**11),))
    steps = [
        "later lifetime",
        "later unregistered 900",
        "trap at_end EXIT",
        "volume /data kubeq-1",
        "retry add docker.io",
        "close iptables",
        "END_OF_PROGRAM" if agent is ARCHIVE else "retry fetch",
        "--supervise &\n",
        'wait "$agent"',
    ]
    places = [boot.index(step) for step in steps]
    assert places == sorted(places)
    assert "halt" not in boot.replace("haltable", "")


def test_an_agent_understands_what_it_is_told_there() -> None:
    settings = read_settings(exported(text(spot=True)))
    assert (settings.node, settings.pool, settings.provider) == ("p1-3", "p1", "ec2")
    assert (settings.lost_after_s, settings.run_dir) == (900.0, Path("/run/kubeq"))
    assert (settings.state_dir, settings.store_url) == (Path("/var/lib/kubeq"), "s3://b/it's")
    assert settings.notice == "http://169.254.169.254/latest/meta-data/spot/instance-action"
    assert settings.machine == Machine(type="m7i.large", zone="a", spot=True, price=0.1)
    assert settings.saving_s == 60.0
    assert read_settings(exported(text())).notice is None, "nobody takes back what is not spot"


def test_volumes_have_the_clouds_names_and_whole_gib() -> None:
    volumes = (Volume(path="/data", size=10**11), Volume(path="/it's", size=2**30))
    assert "volume /data kubeq-1 100931731456 /dev/sdf\nvolume '/it'\"'\"'s' kubeq-2 1073741824 /dev/sdg\n" in text(
        volumes=volumes
    )
    assert "volume /data kubeq-1 100931731456 /dev/disk/by-id/google-kubeq-1\n" in text(IMAGE, GCE, volumes=volumes)
    assert "mkfs" not in text()
    with pytest.raises(UsageError, match="a machine may have 11 volumes"):
        text(volumes=volumes * 6)


def test_the_agents_image_is_asked_for_as_the_machine_and_its_token_is_on_no_command_line() -> None:
    boot = text(IMAGE, GCE)
    assert "'https://storage.googleapis.com/storage/v1/b/b/o/my%20x%2Fblobs%2Fy?alt=media'" in boot
    assert "curl -sS -f --connect-timeout 20 -m 600 -K -" in boot
    assert f'echo "{DIGEST.sha256}  $image" | sha256sum -c' in boot
    assert "--volume /run/kubeq:/run/kubeq --name kubeq-p1-3 --network host" in boot


def test_what_no_machine_could_fetch_is_refused() -> None:
    with pytest.raises(UsageError, match="the agent's image from gs:// only, and it is at s3://"):
        text(replace(IMAGE, url="s3://b/blobs/x"), GCE)
    with pytest.raises(UsageError, match="not in a store that a machine can see"):
        text(replace(IMAGE, image=None), GCE)
