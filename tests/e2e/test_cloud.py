"""Queue and store in a cloud: agents that share nothing with each other or with the submitter but the two URLs.

Each agent is started with the very line that `kubeq agent` prints, in a home of its own with nothing of kubeq's in it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeq.queue.open import open_provisioner as provisioner_of_queue
from kubeq.store.open import open_provisioner as provisioner_of_store
from tests.e2e.clouds import Backplane, containers_of, datastore_process
from tests.homes import Home, eventually
from tests.stand_ins.gcs import EMULATOR, FakeGcs
from tests.stand_ins.ministack import REGION, Cloud

pytestmark = pytest.mark.docker
TASKS = 8


@pytest.fixture
def aws(emulated_aws: Cloud, docker_engine: str, tmp_path: Path) -> Iterator[Backplane]:
    """DynamoDB and S3."""
    name = emulated_aws.name()
    backplane = Backplane(
        queue_url=f"dynamodb://{REGION}/{name}",
        store_url=f"s3://{name}/a%20prefix",
        environment=emulated_aws.environment,
        folder=tmp_path,
    )
    for provisioner in (provisioner_of_store(backplane.store_url, REGION), provisioner_of_queue(backplane.queue_url)):
        assert provisioner is not None
        for piece in provisioner.survey():
            provisioner.create(piece)
    yield backplane
    backplane.end()


@pytest.fixture(scope="module")
def datastore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What leads to a Datastore in a process of its own."""
    with datastore_process(tmp_path_factory.mktemp("datastore")) as environment:
        yield environment


@pytest.fixture
def gcp(emulated_gcs: FakeGcs, datastore: dict[str, str], docker_engine: str, tmp_path: Path) -> Iterator[Backplane]:
    """Datastore and Cloud Storage."""
    bucket = emulated_gcs.bucket()
    backplane = Backplane(
        queue_url=f"datastore://{bucket}",
        store_url=f"gs://{bucket}/a%20prefix",
        environment={EMULATOR: emulated_gcs.url, **datastore},
        folder=tmp_path,
    )
    yield backplane
    backplane.end()


def ways(home: Home, job: str) -> Any:
    """What `kubeq agent` prints for one more node."""
    return home.json("agent", job)


def submit(home: Home, image: str, tasks: int, doomed: str = "none") -> str:
    """A job whose nodes are made by hand; on those whose name ends so, its tasks do not come to an end."""
    (home.cwd / "input.txt").write_text("staged in")
    script = (
        f'case "$KUBEQ_NODE_NAME" in *{doomed}) sleep 900;; esac; echo "$(cat input.txt): $1"; echo "$1" > made.txt'
    )
    words = ["-u", "input.txt", "sh", "-c", script, "sh", "{index}"]
    answer = home.json("sub", "-n", "spread", "--prepare", "-i", image, "--seq", str(tasks), *words)
    return str(answer["job"])


def check_results(home: Home, job: str, survivor: str) -> None:
    """All of the job can be had in a home that has seen nothing of it, and is right."""
    assert home.run("watch", job, code=None).returncode == 0, home.run("list", job).stdout
    tasks = home.tasks(job)
    assert {task["node"] for task in tasks} == {survivor}
    assert max(task["attempt"] for task in tasks) > 1, "no task was taken from the agent that died"
    assert containers_of(job) == [], "the second agent did not stop what the first one had left running"
    home.run("fetch", job, "out")
    for index in range(1, TASKS + 1):
        assert (home.cwd / f"out/{index}/stdout.txt").read_text() == f"staged in: {index}\n"
        assert (home.cwd / f"out/{index}/made.txt").read_text() == f"{index}\n"


def share_and_die(backplane: Backplane, submitter: Home, job: str, first: tuple[str, Path], imaged: Any) -> None:
    """An agent gets into mid-task, one in the image joins it, the first is killed, the submitter vanishes."""
    dying = backplane.start(*first)
    eventually(lambda: submitter.stands(job) == "running", "a task is claimed", submitter)
    eventually(lambda: [t for t in submitter.tasks(job) if t["started_at"]], "a task of the first runs", submitter)
    backplane.start_container(imaged["image"]["command"], imaged["node"], backplane.machine("imaged"))
    eventually(lambda: submitter.status(job)["tasks"]["succeeded"], "the second has done a task", submitter)
    backplane.kill(dying)
    backplane.leave(submitter)


def test_on_dynamodb_and_s3_agents_of_two_forms_share_a_job_and_one_of_them_dies(
    aws: Backplane, agent_image: str, busybox_image: str
) -> None:
    submitter = aws.home("submitter")
    job = submit(submitter, busybox_image, TASKS, doomed="-2")
    packed, imaged = ways(submitter, job), ways(submitter, job)
    assert packed["node"].endswith("-2")
    assert (packed["archive"]["already"], imaged["archive"]["already"]) == (False, True)
    assert imaged["image"]["name"] == agent_image
    machine = aws.machine("packed")
    shutil.copy(packed["archive"]["path"], machine)
    try:
        share_and_die(aws, submitter, job, (packed["archive"]["command"], machine), imaged)
        check_results(aws.home("reader"), job, imaged["node"])
    finally:
        aws.end([job])


def test_on_datastore_and_cloud_storage_an_installed_agent_and_an_image_share_a_job_and_one_of_them_dies(
    gcp: Backplane, agent_image: str, busybox_image: str
) -> None:
    submitter = gcp.home("submitter")
    job = submit(submitter, busybox_image, TASKS, doomed="-2")
    installed, imaged = ways(gcp.home("colleague"), job), ways(submitter, job)
    assert installed["node"].endswith("-2")
    assert imaged["archive"] is None, "gRPC cannot be in an archive"
    try:
        share_and_die(gcp, submitter, job, (installed["command"], gcp.machine("installed")), imaged)
        check_results(gcp.home("reader"), job, imaged["node"])
    finally:
        gcp.end([job])


def test_a_fresh_machine_makes_itself_a_node_of_nothing_but_the_boot_text(aws: Backplane) -> None:
    submitter = aws.home("submitter")
    submitter.env["AWS_SECRET_ACCESS_KEY"] = "the-submitters-own"
    job = submit(submitter, "none", tasks=3)
    text = submitter.run("agent", "--print-boot", job).stdout
    assert "the-submitters-own" not in text
    machine = aws.machine("fresh")
    (machine / "boot").write_text(text)
    boot = aws.start("sh ./boot", machine)
    assert submitter.run("watch", job, code=None).returncode == 0, (machine / "printed").read_text()
    assert boot.wait(60) == 0
    assert submitter.run("logs", f"{job}/3").stdout == "staged in: 3\n"


def test_a_fresh_machine_with_docker_makes_itself_a_node_where_an_archive_will_not_do(
    gcp: Backplane, agent_image: str, busybox_image: str
) -> None:
    submitter = gcp.home("submitter")
    job = submit(submitter, busybox_image, tasks=2)
    text = submitter.run("agent", "--print-boot", job).stdout
    machine = gcp.machine("fresh")
    (machine / "boot").write_text(text.replace("/var/lib/kubeq", f"{machine}/kept"))
    boot = gcp.start("sh ./boot", machine)
    assert submitter.run("watch", job, code=None).returncode == 0, (machine / "printed").read_text()
    assert boot.wait(60) == 0


def test_an_image_of_another_release_is_refused_before_anything_is_printed(aws: Backplane) -> None:
    made = ["docker", "import", "--change", "LABEL kubeq.release=0.0.1+0123456789ab", "-", "kubeq-test-agent:old"]
    subprocess.run(made, input=bytes(1024), capture_output=True, check=True)
    try:
        done = aws.home("submitter").run("-o", "consumer_image=kubeq-test-agent:old", "agent", code=5)
    finally:
        subprocess.run(["docker", "rmi", "kubeq-test-agent:old"], capture_output=True, check=False)
    assert done.stdout == ""
    assert "the image kubeq-test-agent:old on this machine is of kubeq 0.0.1+0123456789ab, and this is" in done.stderr
