"""An emulated AWS account in which jobs run on machines of EC2: who works there, and waiting for what must come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.homes import Home
from tests.stand_ins.ec2 import Ec2Cloud
from tests.stand_ins.ministack import REGION, Cloud

PATIENCE_S = 150.0


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
            f"[config]\nregion = {REGION}\nmachine_type = m7i.large\nnode_identity = kubeq-node\n"
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


def account_of(ec2: Ec2Cloud, aws: Cloud, folder: Path) -> Account:
    """One in which nothing has been set up."""
    return Account(ec2, {**ec2.environment, **aws.environment}, aws.name(), folder)
