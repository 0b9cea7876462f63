"""From `kubeq sub` to `kubeq fetch` on machines of the emulated EC2 that boot the very text they are given.

Queue and store are the emulated DynamoDB and S3. A machine is a container with a Docker engine of its own, and whoever
it is it knows from its metadata service alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from kubeq.queue.open import open_provisioner as provisioner_of_queue
from kubeq.store.open import open_provisioner as provisioner_of_store
from tests.homes import Home
from tests.stand_ins.ec2 import Ec2Cloud, booting_ec2
from tests.stand_ins.ministack import REGION, Cloud

pytestmark = pytest.mark.docker
PATIENCE_S = 150.0
TASKS = 6
IDENTITY = "kubeq-node"
SCRIPT = """\
case "$KUBEQ_NODE_NAME" in *-1) sleep 900;; esac
ask() { printf 'PUT /latest/api/token HTTP/1.0\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n'; sleep 1; }
[ "$1" != 1 ] || ask | nc -w 2 169.254.169.254 80 2>/dev/null | grep HTTP
echo "$(cat input.txt): $1"
echo "$1" >made.txt
"""


@dataclass
class Account:
    """The emulated account, and homes of people who work there."""

    ec2: Ec2Cloud
    environment: dict[str, str]
    name: str
    folder: Path

    def home(self, name: str) -> Home:
        home = Home(self.folder / name, **self.environment, KUBEQ_LEASE="6", KUBEQ_POLL="0.5")
        (home.cwd / ".kubeq").write_text(
            f"[config]\nregion = {REGION}\nmachine_type = m7i.large\nnode_identity = {IDENTITY}\n"
            f"default_url_prefix = s3://{self.name}/a%20prefix\nqueue_url = dynamodb://{REGION}/{self.name}\n"
        )
        return home

    def eventually(self, question: Callable[[], object], what: str) -> None:
        """Until it holds; a test that waits in vain shows what the machines printed."""
        deadline = time.monotonic() + PATIENCE_S
        while not question():
            if time.monotonic() > deadline:
                machines = self.ec2.machines()
                nodes = [one["tags"]["kubeq-node"] for one in machines]
                printed = "\n".join(f"--- {node}\n{self.ec2.console(node)[-3000:]}" for node in nodes)
                pytest.fail(f"not within {PATIENCE_S:g} s: {what}; {machines}\n{printed}")
            time.sleep(0.2)


@pytest.fixture
def account(
    emulated_aws: Cloud,
    ssh_image: str,
    busybox_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Account]:
    name = emulated_aws.name()
    for provisioner in (
        provisioner_of_store(f"s3://{name}/a%20prefix", REGION),
        provisioner_of_queue(f"dynamodb://{REGION}/{name}"),
    ):
        assert provisioner is not None
        for piece in provisioner.survey():
            provisioner.create(piece)
    port = urlsplit(emulated_aws.url).port
    assert port is not None
    folder = tmp_path / "ec2"
    folder.mkdir()
    with booting_ec2(folder, ssh_image, [busybox_image], [port]) as ec2:
        iam = boto3.client("iam", endpoint_url=ec2.url, region_name=REGION)
        iam.create_instance_profile(InstanceProfileName=IDENTITY)
        iam.create_role(RoleName=IDENTITY, AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName=IDENTITY, RoleName=IDENTITY)
        yield Account(ec2, {**ec2.environment, **emulated_aws.environment}, name, tmp_path)


def test_a_job_outlives_its_submitter_and_one_of_its_machines_and_leaves_nothing_standing(
    account: Account, busybox_image: str
) -> None:
    ec2, submitter = account.ec2, account.home("submitter")
    (submitter.cwd / "input.txt").write_text("staged in")
    words = ["--nodes", "2", "--spot", "-u", "input.txt", "-i", busybox_image, "--seq", str(TASKS)]
    job = submitter.submit("-n", "spread", "-y", *words, "sh", "-c", SCRIPT, "sh", "{index}")
    first, second = ec2.standing()
    account.eventually(
        lambda: [task for task in submitter.tasks(job) if task["node"] == first and task["started_at"]],
        "the first machine runs a task",
    )
    submitter.end()
    ec2.preempt(first, notice_s=2.0)
    reader = account.home("reader")
    account.eventually(lambda: reader.status(job)["tasks"]["succeeded"] == TASKS, "all tasks are done")
    tasks = reader.tasks(job)
    assert {task["node"] for task in tasks} == {second}
    assert max(task["attempt"] for task in tasks) > 1, "no task was taken from the machine that went"
    reader.run("fetch", job, "out")
    for index in range(1, TASKS + 1):
        assert (reader.cwd / f"out/{index}/stdout.txt").read_text() == f"staged in: {index}\n"
        assert (reader.cwd / f"out/{index}/made.txt").read_text() == f"{index}\n"
    account.eventually(lambda: not ec2.standing(), "nothing stands any more")
    ended = {one["tags"]["kubeq-node"]: one["code"] for one in ec2.machines()}
    assert ended == {first: "Server.SpotInstanceTermination", second: "Client.InstanceInitiatedShutdown"}
    reader.end()
