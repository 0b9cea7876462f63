"""An emulated AWS account in which jobs run on machines of EC2: who works there, and waiting for what must come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from kubeq.queue.open import open_provisioner as provisioner_of_queue
from kubeq.store.open import open_provisioner as provisioner_of_store
from tests.homes import Home
from tests.stand_ins.ec2 import Ec2Cloud
from tests.stand_ins.ministack import REGION, Cloud

PATIENCE_S = 150.0
IDENTITY = "kubeq-node"


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


def set_up(aws: Cloud) -> str:
    """The name of a new bucket and table there; this process's environment leads there."""
    name = aws.name()
    for provisioner in (
        provisioner_of_store(f"s3://{name}/a%20prefix", REGION),
        provisioner_of_queue(f"dynamodb://{REGION}/{name}"),
    ):
        assert provisioner is not None
        for piece in provisioner.survey():
            provisioner.create(piece)
    return name


def account_of(ec2: Ec2Cloud, aws: Cloud, name: str, folder: Path) -> Account:
    """With an identity for machines."""
    iam = boto3.client("iam", endpoint_url=ec2.url, region_name=REGION)
    iam.create_instance_profile(InstanceProfileName=IDENTITY)
    iam.create_role(RoleName=IDENTITY, AssumeRolePolicyDocument="{}")
    iam.add_role_to_instance_profile(InstanceProfileName=IDENTITY, RoleName=IDENTITY)
    return Account(ec2, {**ec2.environment, **aws.environment}, name, folder)
