"""A trivial job on a machine that is up already, from `sub` to its exit, against `docker run`: `python -m bench warm`.

The machines are the tests': containers that boot the very text that the emulated Compute Engine or EC2 gives them, with
an engine of their own. Queues, stores and machines share this machine's cores. Everything is configured as it is by
default, the poll of a network queue (3 s) and the lease (120 s) among it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.rounds import ROOT, Home, Target, report, timed

LONGEST_S = 10.0
"""What a trivial task may take on a machine that is up."""
WORDS = ("echo", "warm")


def run(rounds: int = 5) -> None:
    """Print the seconds against what they may be, and against `docker run` of the same, for each cloud."""
    image = _built("images/base/build.py", "--minimal")
    clouds: Mapping[str, Callable[[str], AbstractContextManager[Home]]] = {"gce": _compute_engine, "ec2": _ec2}
    for name, serving in clouds.items():
        with serving(image) as home:
            _compare(name, home, image, rounds)


def _compare(cloud: str, home: Home, image: str, rounds: int) -> None:
    """The first submission makes the machine; each of the others finds it."""
    submission = ("sub", "-y", "--nodes", "1", "-i", image, *WORDS)
    cold = timed(lambda: home.kubeq(*submission))
    plain = ("docker", "run", "--rm", image, *WORDS)
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(timed(lambda: subprocess.run(plain, check=True, capture_output=True)))
        ours.append(timed(lambda: home.kubeq(*submission)))
    print(f"{cloud}: the first submission, which makes the machine, took {cold:.1f} s", flush=True)
    report(f"a task on a warm machine of {cloud} / {LONGEST_S:g} s", ours, [LONGEST_S] * rounds, Target(1, 0.5))
    report(f"a task on a warm machine of {cloud} / docker run", ours, theirs, Target(20, 10))


@contextmanager
def _compute_engine(image: str) -> Iterator[Home]:
    """A home that is configured for an emulated Google: Datastore, Cloud Storage, Compute Engine."""
    from tests.e2e.clouds import datastore_process
    from tests.stand_ins.gce import serving_gce
    from tests.stand_ins.gce_catalogue import PROJECT, REGION
    from tests.stand_ins.gce_machines import docker_machinery
    from tests.stand_ins.gcs import EMULATOR, emulated
    from tests.stand_ins.ssh_image import ssh_host_image

    _built("images/consumer/build.py")
    with _folder() as folder, emulated(folder) as gcs, serving_gce() as gce, datastore_process(folder) as datastore:
        places = (gcs.url, gce.url, *(f"tcp://{address}" for address in datastore.values()))
        ports = [port for place in places if (port := urlsplit(place).port)]
        with docker_machinery(ssh_host_image(), ports, [image], folder) as machinery:
            gce.instances.machines = machinery
            bucket = gcs.bucket()
            settings = {
                "project": PROJECT,
                "region": REGION,
                "machine_type": "e2-standard-2",
                "default_url_prefix": f"gs://{bucket}/kubeq",
                "queue_url": f"datastore://{bucket}",
            }
            with _home(settings, {EMULATOR: gcs.url, **gce.environment, **datastore}) as home:
                yield home
            gce.instances.remove_all()


@contextmanager
def _ec2(image: str) -> Iterator[Home]:
    """A home that is configured for an emulated AWS: DynamoDB, S3, EC2."""
    from tests.stand_ins.ec2 import booting_ec2
    from tests.stand_ins.ministack import REGION, emulated
    from tests.stand_ins.ssh_image import ssh_host_image

    with _folder() as folder, emulated(folder) as aws:
        port = urlsplit(aws.url).port
        assert port is not None
        with booting_ec2(folder, ssh_host_image(), [image], [port]) as ec2:
            name = aws.name()
            settings = {
                "region": REGION,
                "machine_type": "m7i.large",
                "node_identity": "kubeq-node",
                "default_url_prefix": f"s3://{name}/kubeq",
                "queue_url": f"dynamodb://{REGION}/{name}",
            }
            with _home(settings, {**ec2.environment, **aws.environment}) as home:
                home.kubeq("setup", "-y")
                yield home


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kubeq-bench-") as name:
        yield Path(name)


@contextmanager
def _home(settings: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[Home]:
    home = Home()
    home.env |= environment
    (home.path / ".kubeq").write_text("[config]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    try:
        yield home
    finally:
        home.kubeq("pool", "down")
        home.remove()


def _built(script: str, *options: str) -> str:
    """The name of the image that the script makes."""
    command = [sys.executable, str(ROOT / script), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
