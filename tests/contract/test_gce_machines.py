"""That a machine of the emulated Compute Engine is one, as far as a boot text can tell; no kubeq on it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.stand_ins.gce import FakeGce, serving_gce
from tests.stand_ins.gce_catalogue import PROJECT, ZONES
from tests.stand_ins.gce_machines import DockerMachinery, docker_machinery

pytestmark = pytest.mark.docker
ASKS = """\
#!/bin/sh
ask() { curl -s -m 5 -H 'Metadata-Flavor: Google' "http://$1/computeMetadata/v1/instance/$2"; }
echo "I am $(ask metadata.google.internal name) with $(ask 169.254.169.254 service-accounts/default/token)"
echo "without the header: $(curl -s -m 5 http://169.254.169.254/computeMetadata/v1/instance/name)"
echo "the stand-in says: $(curl -s -m 5 http://127.0.0.1:PORT/compute/v1/projects/PROJECT)"
until docker version >/dev/null 2>&1; do sleep 0.1; done
docker run --rm IMAGE echo "an engine of its own"
"""
LINGERS = """\
trap 'echo told to end; exit 0' TERM
until ask 169.254.169.254 preempted | grep -q TRUE; do sleep 0.1; done
echo taken back
while :; do sleep 0.1; done
"""


@pytest.fixture
def machines(ssh_image: str, busybox_image: str, tmp_path: Path) -> Iterator[tuple[FakeGce, DockerMachinery]]:
    with serving_gce() as fake, docker_machinery(ssh_image, [fake.port], [busybox_image], tmp_path) as machinery:
        fake.instances.machines = machinery
        yield fake, machinery
        fake.instances.remove_all()


def insert(fake: FakeGce, name: str, script: str, **more: object) -> None:
    items = [{"key": "startup-script", "value": script}]
    body = {"name": name, "machineType": "e2-standard-2", "metadata": {"items": items}, **more}
    url = f"{fake.url}/compute/v1/projects/{PROJECT}/zones/{ZONES[0]}/instances"
    urlopen(Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}), timeout=60).close()


def eventually(question: Callable[[], bool], fake: FakeGce, machinery: DockerMachinery) -> None:
    deadline = time.monotonic() + 90
    while not question():
        said = {name: machinery.console(name) for name in fake.instances.states()}
        assert time.monotonic() < deadline, (fake.instances.states(), said)
        time.sleep(0.1)


def test_a_machine_runs_its_script_meets_its_metadata_and_ends_as_it_is_told(
    machines: tuple[FakeGce, DockerMachinery], busybox_image: str
) -> None:
    fake, machinery = machines
    script = ASKS.replace("PORT", str(fake.port)).replace("PROJECT", PROJECT).replace("IMAGE", busybox_image)
    suffix = os.urandom(3).hex()
    short, spot = f"short-{suffix}", f"spot-{suffix}"
    insert(fake, short, script + "poweroff\n")
    scheduling = {"provisioningModel": "SPOT", "automaticRestart": False, "instanceTerminationAction": "DELETE"}
    insert(fake, spot, script + LINGERS, scheduling=scheduling)
    eventually(lambda: fake.instances.states().get(short) == "TERMINATED", fake, machinery)
    printed = machinery.console(short)
    assert f'I am {short} with {{"access_token": "token-of-{short}"' in printed
    assert "without the header: Missing Metadata-Flavor:Google header." in printed
    assert f'the stand-in says: {{"name": "{PROJECT}"' in printed
    assert "an engine of its own" in printed
    eventually(lambda: "an engine of its own" in machinery.console(spot), fake, machinery)
    fake.instances.warning_s = 3.0
    fake.instances.preempt(spot)
    eventually(lambda: spot not in fake.instances.states(), fake, machinery)
    assert machinery.console(spot).split("\n")[-3:-1] == ["taken back", "told to end"]
