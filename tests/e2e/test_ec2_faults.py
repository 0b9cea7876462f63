"""An EC2 that has no room, refuses, or makes machines that fail: what the user is told, and that nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.ec2 import Account, account_of
from tests.stand_ins.ec2 import Ec2Cloud
from tests.stand_ins.ministack import Cloud


@pytest.fixture
def account(emulated_aws: Cloud, ec2_account: Ec2Cloud, tmp_path: Path) -> Account:
    account = account_of(ec2_account, emulated_aws, tmp_path)
    account.home("admin").run("setup", "-y")
    return account


def test_a_submission_that_gets_no_machine_says_why_in_the_clouds_words_and_leaves_none(account: Account) -> None:
    home, ec2 = account.home("home"), account.ec2
    words = ["sub", "-y", "--nodes", "2", "-i", "busybox", "true"]
    ec2.faults(no_room=[["*", "*", "*"]])
    said = home.run("-o", "machine_type=m7i.large,c7i.xlarge", *words, code=6).stderr
    assert "EC2 has no room" in said
    assert "We do not have sufficient c7i.xlarge capacity" in said
    ec2.faults(no_room=[], refuse={"RunInstances": ["UnauthorizedOperation", "You are not authorized.", 0]})
    assert "AWS does not permit ec2:RunInstances" in home.run(*words, code=6).stderr
    ec2.faults(refuse={}, quotas={"L-1216C47A": 0.0})
    assert "is 0 processors (L-1216C47A)" in home.run(*words, code=2).stderr
    ec2.faults(quotas={})
    assert "eu-west-1 has no zone eu-west-1x" in home.run("-o", "zones=eu-west-1x", *words, code=2).stderr
    assert ec2.standing() == []


def test_machines_that_fail_one_after_another_are_not_started_for_ever(account: Account) -> None:
    home, ec2 = account.home("home"), account.ec2
    ec2.faults(dies_s=0.0)
    done = home.run("sub", "-y", "--nodes", "1", "-i", "busybox", "true", code=6)
    assert "have ended one after another without ever working" in done.stderr
    assert "Server.InternalError: Internal error on launch" in done.stderr
    assert 3 <= len(ec2.machines()) <= 5
    assert ec2.standing() == []


def test_where_half_of_the_machines_are_refused_the_job_has_the_others_and_pool_down_ends_them(
    account: Account,
) -> None:
    home, ec2 = account.home("home"), account.ec2
    ec2.faults(most=2)
    done = home.run(
        "sub", "-y", "-n", "half", "--no-wait", "--nodes", "4", "-i", "busybox", "--seq", "8", "true {index}"
    )
    assert "You have requested more vCPU capacity than your current limit allows" in done.stderr
    assert len(ec2.standing()) == 2
    home.run("pool", "down")
    account.eventually(lambda: not ec2.standing(), "nothing stands any more")
