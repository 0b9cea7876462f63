"""From `kubeq sub` to `kubeq fetch` on machines of the emulated Compute Engine that boot the very text they are given.

Queue and store are the emulated Datastore and Cloud Storage. A machine is a container with an engine of its own; it
fetches the agent's image out of the store as itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.clouds import datastore_process
from tests.homes import Home
from tests.stand_ins.gce import FakeGce, serving_gce
from tests.stand_ins.gce_catalogue import PROJECT, REGION, ZONES
from tests.stand_ins.gce_machines import DockerMachinery, docker_machinery
from tests.stand_ins.gcs import EMULATOR, FakeGcs

pytestmark = pytest.mark.docker
PATIENCE_S = 150.0
TASKS = 6
SCRIPT = """\
case "$KUBEQ_NODE_NAME" in *-1) sleep 900;; esac
while [ ! -e /node/go ]; do sleep 0.2; done
token=/computeMetadata/v1/instance/service-accounts/default/token
ask() { printf 'GET %s HTTP/1.0\\r\\nMetadata-Flavor: Google\\r\\n\\r\\n' "$token"; sleep 1; }
[ "$1" != 1 ] || ask | nc -w 2 169.254.169.254 80 2>/dev/null | grep access_token
echo "$(cat input.txt): $1"
echo "$1" >made.txt
"""


@dataclass
class Cloud:
    """The emulated cloud, and homes of people who work there."""

    gce: FakeGce
    machinery: DockerMachinery
    environment: dict[str, str]
    bucket: str
    folder: Path

    def home(self, name: str) -> Home:
        home = Home(self.folder / name, **self.environment, KUBEQ_LEASE="6", KUBEQ_POLL="0.5")
        (home.cwd / ".kubeq").write_text(
            f"[config]\nproject = {PROJECT}\nregion = {REGION}\nzones = {ZONES[0]},{ZONES[1]}\n"
            f"default_url_prefix = gs://{self.bucket}/a%20prefix\nqueue_url = datastore://{self.bucket}\n"
            "machine_type = e2-standard-2\nconsumer_image = kubeq-test-consumer\n"
        )
        return home

    def runs(self, name: str, job: str) -> bool:
        """Whether the machine runs a task of the job now; asked of its own engine, which costs less than a command."""
        _, listed = self.machinery.run(name, "docker", "ps", "-q", "--filter", f"label=kubeq.job={job}")
        return bool(listed.strip())

    def eventually(self, question: Callable[[], object], what: str) -> None:
        """Until it holds; a test that waits in vain shows what the machines printed."""
        deadline = time.monotonic() + PATIENCE_S
        while not question():
            if time.monotonic() > deadline:
                states = self.gce.instances.states()
                printed = "\n".join(f"--- {name}\n{self.machinery.console(name)[-3000:]}" for name in states)
                pytest.fail(f"not within {PATIENCE_S:g} s: {what}; {states}\n{printed}")
            time.sleep(0.5)


@pytest.fixture
def cloud(
    emulated_gcs: FakeGcs, ssh_image: str, busybox_image: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    with serving_gce() as gce, datastore_process(folder) as datastore:
        environment = {EMULATOR: emulated_gcs.url, **gce.environment, **datastore}
        places = (emulated_gcs.url, gce.url, *(f"tcp://{address}" for address in datastore.values()))
        ports = [port for place in places if (port := urlsplit(place).port)]
        with docker_machinery(ssh_image, ports, [busybox_image], folder) as machinery:
            gce.instances.machines = machinery
            yield Cloud(gce, machinery, environment, emulated_gcs.bucket(), tmp_path)
            gce.instances.remove_all()


def test_a_job_outlives_its_submitter_and_one_of_its_machines_and_leaves_nothing_standing(
    cloud: Cloud, agent_image: str, busybox_image: str
) -> None:
    submitter = cloud.home("submitter")
    (submitter.cwd / "input.txt").write_text("staged in")
    words = ["--nodes", "2", "--spot", "-u", "input.txt", "-i", busybox_image, "--mount", "/opt:/node:ro"]
    words += ["--seq", str(TASKS)]
    job = submitter.submit("-n", "spread", *words, "sh", "-c", SCRIPT, "sh", "{index}")
    first, second = sorted(cloud.gce.instances.states())
    survivor = second.removeprefix("kubeq-")
    cloud.eventually(lambda: all(cloud.runs(name, job) for name in (first, second)), "both machines run tasks")
    connected = submitter.run("connect", survivor, "sh", "-c", "id -u; hostname")
    assert connected.stdout.split() == ["0", second], "as the agent's user, on the machine itself"
    submitter.end()
    cloud.gce.instances.warning_s = 2.0
    cloud.gce.instances.preempt(first)
    cloud.eventually(lambda: list(cloud.gce.instances.states()) == [second], "the first machine is gone")
    assert cloud.machinery.run(second, "touch", "/opt/go") == (0, "")
    reader = cloud.home("reader")
    cloud.eventually(lambda: reader.stands(job) == "succeeded", "all tasks are done")
    tasks = reader.tasks(job)
    assert {task["node"] for task in tasks} == {survivor}
    assert max(task["attempt"] for task in tasks) > 1, "no task was taken from the machine that went"
    assert f"this machine becomes node {survivor}" in reader.run("logs", survivor).stdout
    reader.run("fetch", job, "out")
    for index in range(1, TASKS + 1):
        assert (reader.cwd / f"out/{index}/stdout.txt").read_text() == f"staged in: {index}\n"
        assert (reader.cwd / f"out/{index}/made.txt").read_text() == f"{index}\n"
    cloud.eventually(lambda: not cloud.gce.instances.states(), "nothing stands any more")
    assert cloud.gce.instances.made == 2
    deleted = [asked for asked in cloud.gce.asked if asked.method == "instances.delete"]
    assert deleted, "the machine deletes itself"
    reader.end()
