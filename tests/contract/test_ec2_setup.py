"""As whom machines of EC2 act: made by `setup`, once, and never more than a node needs."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from kubeq.nodes.ec2_setup import TRUST, Ec2Identity, launching, policy_name
from tests.stand_ins.ministack import REGION, Cloud

POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::bucket/me/*"]}],
}


@pytest.fixture
def cloud(ministack: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name, value in ministack.environment.items():
        monkeypatch.setenv(name, value)
    return ministack


def iam(cloud: Cloud) -> Any:
    import boto3

    return boto3.session.Session().client("iam", endpoint_url=cloud.url, region_name=os.environ["AWS_REGION"])


def made(identity: Ec2Identity) -> list[str]:
    """The kinds that had to be made."""
    missing = [piece for piece in identity.survey() if not piece.stands]
    for piece in missing:
        identity.create(piece)
    return [piece.kind for piece in missing]


def test_a_role_for_machines_only_with_that_policy_in_a_profile_made_once(cloud: Cloud) -> None:
    name = cloud.name()
    assert made(Ec2Identity(name, POLICY, REGION)) == ["role", "role policy", "instance profile"]
    assert made(Ec2Identity(name, POLICY, REGION)) == []
    asked = iam(cloud)
    assert asked.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"] == TRUST
    assert asked.get_role_policy(RoleName=name, PolicyName=policy_name(POLICY))["PolicyDocument"] == POLICY
    (role,) = asked.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
    assert role["RoleName"] == name


def test_a_policy_for_another_store_stands_beside_the_first_and_every_step_may_be_repeated(cloud: Cloud) -> None:
    name = cloud.name()
    made(Ec2Identity(name, POLICY, REGION))
    moved = json.loads(json.dumps(POLICY).replace("bucket", "other"))
    identity = Ec2Identity(name, moved, REGION)
    assert made(identity) == ["role policy"]
    for piece in identity.survey():
        identity.create(piece)
    assert made(identity) == []
    assert identity.requests["GetRole"] == 3
    assert made(Ec2Identity(name, POLICY, REGION)) == []


def test_what_is_allowed_anew_at_the_same_place_takes_the_place_of_what_was(cloud: Cloud) -> None:
    name = cloud.name()
    made(Ec2Identity(name, POLICY, REGION))
    more = json.loads(json.dumps(POLICY))
    more["Statement"][0]["Action"].append("s3:ListBucket")
    assert made(Ec2Identity(name, more, REGION)) == ["role policy"]
    assert len(iam(cloud).list_role_policies(RoleName=name)["PolicyNames"]) == 1


def test_who_starts_machines_may_give_them_that_role_and_no_other() -> None:
    passing = [each for each in launching("kubeq-node", REGION) if "iam:PassRole" in each.actions]
    assert [each.resources for each in passing] == [("arn:aws:iam::*:role/kubeq-node",)]


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_names_of_things_begin_as_the_regions_partition_has_it(region: str, partition: str) -> None:
    named = [resource for each in launching("kubeq-node", region) for resource in each.resources if resource != "*"]
    assert named
    assert all(resource.startswith(f"arn:{partition}:iam::*:") for resource in named)
