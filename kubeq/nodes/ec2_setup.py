"""As whom EC2 machines act, made: a role that only they may take, with the least that a node needs, in a profile.

What a node needs, its store and queue say; what whoever starts machines needs is in `LAUNCHING`. Everything may be
repeated. A role of that name that somebody else made is given its policy and otherwise left as it is. Each place (store
and queue) has a policy of its own in the role: whoever sets up another one takes nothing away from the first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

from kubeq.aws import client, partition_of, plainly
from kubeq.core.provisioning import Permission, Piece
from kubeq.metering import Meter

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

ROLE, POLICY, PROFILE = "role", "role policy", "instance profile"
TRUST: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
"""Who may take the role: machines of EC2 (IAM user guide, "Using an IAM role to grant permissions to applications").
EC2 is called so in every partition, whatever the ends of its addresses.
"""
_LOOKING = (
    "ec2:DescribeAvailabilityZones", "ec2:DescribeImages", "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes", "ec2:DescribeInstances", "ec2:DescribeRegions", "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotPriceHistory", "ec2:DescribeSubnets", "ec2:DescribeVpcs", "ec2:GetConsoleOutput",
    "pricing:GetProducts", "servicequotas:GetServiceQuota", "ssm:GetParameter",
)  # fmt: skip
_MAKING = (
    "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateSecurityGroup", "ec2:CreateTags", "ec2:DeleteSecurityGroup",
    "ec2:RevokeSecurityGroupIngress", "ec2:RunInstances", "ec2:TerminateInstances",
)  # fmt: skip


def policy_name(policy: Mapping[str, Any]) -> str:
    """The name of the policy for those resources, whatever is allowed there."""
    resources = sorted({resource for statement in policy["Statement"] for resource in statement["Resource"]})
    return f"kubeq-node-{hashlib.sha256(json.dumps(resources).encode()).hexdigest()[:12]}"


def launching(name: str, region: str | None) -> list[Permission]:
    """What whoever starts and ends machines in the region that act as `name` has to be allowed."""
    iam = f"arn:{partition_of(region)}:iam::*"
    return [
        Permission(actions=_LOOKING, resources=("*",)),
        Permission(actions=_MAKING, resources=("*",)),
        Permission(actions=("iam:GetInstanceProfile",), resources=(f"{iam}:instance-profile/{name}",)),
        Permission(actions=("iam:PassRole",), resources=(f"{iam}:role/{name}",)),
        Permission(
            actions=("iam:CreateServiceLinkedRole",),
            resources=(f"{iam}:role/aws-service-role/spot.amazonaws.com/*",),
        ),
    ]


class Ec2Identity:
    """Makes a role and an instance profile of that name, whose policy is that document.

    IAM knows no regions, but each partition has its own: it is that of `region` (None: of the environment's).
    """

    cloud: ClassVar[str] = "aws"

    def __init__(self, name: str, policy: Mapping[str, Any], region: str | None) -> None:
        self._name = name
        self._region = region
        self._policy = policy
        self._policy_name = policy_name(policy)
        self._meter = Meter()

    @property
    def requests(self) -> Mapping[str, int]:
        """See Provisioner."""
        return self._meter.read()

    def survey(self) -> list[Piece]:
        """Role, policy, profile; three requests."""
        about = "for machines of EC2 only"
        return [
            Piece(kind=ROLE, name=self._name, stands=self._has_role(), about=about),
            Piece(kind=POLICY, name=self._policy_name, stands=self._has_policy(), about="the least that a node needs"),
            Piece(kind=PROFILE, name=self._name, stands=self._has_profile(), about="holds the role"),
        ]

    def create(self, piece: Piece) -> None:
        """See Provisioner."""
        with plainly("iam", f"the {piece.kind} {piece.name}"):
            match piece.kind:
                case "role":
                    self._create_role()
                case "role policy":
                    document = json.dumps(self._policy)
                    self._iam.put_role_policy(
                        RoleName=self._name, PolicyName=self._policy_name, PolicyDocument=document
                    )
                case _:
                    self._create_profile()

    def node_permissions(self) -> list[Permission]:
        """None of its own: a machine ends itself by switching itself off."""
        return []

    @cached_property
    def _iam(self) -> IAMClient:
        return client("iam", self._region, self._meter)

    def _create_role(self) -> None:
        try:
            self._iam.create_role(
                RoleName=self._name,
                AssumeRolePolicyDocument=json.dumps(TRUST),
                Description="What machines that kubeq starts may do",
            )
        except self._iam.exceptions.EntityAlreadyExistsException:
            return

    def _create_profile(self) -> None:
        exists = self._iam.exceptions.EntityAlreadyExistsException
        with suppress(exists):
            self._iam.create_instance_profile(InstanceProfileName=self._name)
        try:
            self._iam.add_role_to_instance_profile(InstanceProfileName=self._name, RoleName=self._name)
        except self._iam.exceptions.LimitExceededException:  # it holds one already: a profile holds one role
            return

    def _has_role(self) -> bool:
        with plainly("iam", f"the role {self._name}"):
            try:
                self._iam.get_role(RoleName=self._name)
            except self._iam.exceptions.NoSuchEntityException:
                return False
        return True

    def _has_policy(self) -> bool:
        """Whether it says what it has to: a store that has moved needs another one."""
        with plainly("iam", f"the policy of the role {self._name}"):
            try:
                answer = self._iam.get_role_policy(RoleName=self._name, PolicyName=self._policy_name)
            except self._iam.exceptions.NoSuchEntityException:
                return False
        document: Any = answer["PolicyDocument"]
        standing = json.loads(unquote(document)) if isinstance(document, str) else document
        return bool(standing == self._policy)

    def _has_profile(self) -> bool:
        with plainly("iam", f"the instance profile {self._name}"):
            try:
                answer = self._iam.get_instance_profile(InstanceProfileName=self._name)
            except self._iam.exceptions.NoSuchEntityException:
                return False
        return bool(answer["InstanceProfile"]["Roles"])
