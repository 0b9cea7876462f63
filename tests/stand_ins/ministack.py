"""ministack, a stand-in for S3 and DynamoDB (and more of AWS) in one Python process.

Faithful in what kubeq's queue and store rest on: conditional writes are atomic under threads, failed conditions return
the row that stands, item and page limits hold. It never throttles, never answers TransactionConflict and its indexes
never lag: tests of those inject them in the SDK's hooks. It checks neither signatures nor permissions unless asked to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest

from kubeq import aws
from kubeq.errors import BackendError
from kubeq.metering import Meter
from tests.stand_ins.base import Server, installed, serving

REQUIREMENT = "ministack==1.5.33"
REGION = "eu-west-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """An account in an emulated AWS: what a process needs in its environment to use it."""

    url: str
    environment: Mapping[str, str]

    def name(self) -> str:
        """A name that no bucket, table or role has yet."""
        return f"kubeq-test-{token_hex(6)}"


@contextmanager
def emulated(folder: Path, **options: str) -> Iterator[Cloud]:
    """An AWS of one's own. `options` are ministack's own (`AUTH="true"`: permissions are enforced)."""
    program = installed(REQUIREMENT) / "ministack"

    def environment(port: int) -> dict[str, str]:
        quiet = {"LOG_LEVEL": "WARNING", "DOCKER_HOST": f"unix://{folder}/no-engine", "S3_PERSIST": "0"}
        return {"PATH": os.environ["PATH"], "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)} | quiet | options

    with serving(lambda port: [str(program)], environment, _answers, folder) as server:
        yield _cloud(server)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The emulated AWS of this test process; this process's environment does not point to it yet."""
    with emulated(tmp_path_factory.mktemp("ministack")) as cloud:
        yield cloud


@pytest.fixture
def emulated_aws(ministack: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The same, and during the test every client that is made uses it."""
    for name, value in ministack.environment.items():
        monkeypatch.setenv(name, value)
    return ministack


def _cloud(server: Server) -> Cloud:
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    return Cloud(
        url=server.url,
        environment={"AWS_ENDPOINT_URL": server.url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION} | credentials,
    )


def _answers(server: Server) -> bool:
    """Whether a table can be listed: DynamoDB is ready last."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _cloud(server).environment.items():
            patch.setenv(name, value)
        try:
            with aws.plainly("dynamodb", "the stand-in"):
                aws.client("dynamodb", REGION, Meter()).list_tables()
        except BackendError:
            return False
    return True
