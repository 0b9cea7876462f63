"""From `kubeq setup` to `kubeq fetch` on machines of the emulated EC2 that boot the very text they are given.

Queue and store are the emulated DynamoDB and S3. A machine is a container with a Docker engine of its own, and whoever
it is it knows from its metadata service alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.ec2 import Account, account_of
from tests.stand_ins.ec2 import booting_ec2
from tests.stand_ins.ministack import Cloud

pytestmark = pytest.mark.docker
TASKS = 6
SCRIPT = """\
case "$KUBEQ_NODE_NAME" in *-1) sleep 900;; esac
ask() { printf 'PUT /latest/api/token HTTP/1.0\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n'; sleep 1; }
[ "$1" != 1 ] || ask | nc -w 2 169.254.169.254 80 2>/dev/null | grep HTTP
echo "$(cat input.txt): $1"
echo "$1" >made.txt
"""


@pytest.fixture
def account(emulated_aws: Cloud, ssh_image: str, busybox_image: str, tmp_path: Path) -> Iterator[Account]:
    port, folder = urlsplit(emulated_aws.url).port, tmp_path / "ec2"
    folder.mkdir()
    assert port is not None
    with booting_ec2(folder, ssh_image, [busybox_image], [port]) as ec2:
        yield account_of(ec2, emulated_aws, tmp_path)


def test_a_job_outlives_its_submitter_and_one_of_its_machines_and_leaves_nothing_standing(
    account: Account, busybox_image: str
) -> None:
    ec2, submitter = account.ec2, account.home("submitter")
    submitter.run("setup", "-y")
    (submitter.cwd / "input.txt").write_text("staged in")
    words = ["--nodes", "2", "--spot", "-u", "input.txt", "-i", busybox_image, "--seq", str(TASKS)]
    job = submitter.submit("-n", "spread", "-y", *words, "sh", "-c", SCRIPT, "sh", "{index}")
    first, second = ec2.standing()
    account.eventually(lambda: submitter.stands(job) == "running", "a machine runs a task")
    account.eventually(
        lambda: [task for task in submitter.tasks(job) if task["node"] == first and task["started_at"]],
        "the first machine runs a task",
    )
    assert submitter.run("connect", second, "--", "hostname").stdout.startswith("i-")
    submitter.end()
    ec2.preempt(first, notice_s=2.0)
    reader = account.home("reader")
    account.eventually(lambda: reader.stands(job) == "succeeded", "all tasks are done")
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
