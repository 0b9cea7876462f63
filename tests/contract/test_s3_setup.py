"""What `kubeq setup` makes for an S3 store, on the emulator; and what the permissions that it prints allow."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from kubeq import aws
from kubeq.core.digest import Digest
from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import AccessDenied, BackendError, Conflict, IntegrityError
from kubeq.metering import Meter
from kubeq.store.open import open_provisioner
from kubeq.store.s3 import S3Store
from kubeq.store.s3_bucket import Bucket
from kubeq.store.s3_setup import S3Provisioner
from kubeq.store.sending import PART
from tests.stand_ins.ministack import REGION, Cloud, emulated
from tests.stand_ins.s3 import PREFIX, as_somebody, emulated_bucket, impatient
from tests.stand_ins.wire import Wire, cut, lose_the_answer, refuse


class Rig:
    def __init__(self, bucket: Bucket, prefix: str = "team/kubeq") -> None:
        self.bucket = bucket
        self.pauses: list[float] = []
        self.provisioner = S3Provisioner(bucket, prefix, patience=impatient(self.pauses))
        self.client: Any = bucket.client
        self.wire = Wire(bucket.client)

    def standing(self) -> dict[str, bool]:
        return {piece.kind: piece.stands for piece in self.provisioner.survey()}

    def create_all(self) -> None:
        for piece in self.provisioner.survey():
            self.provisioner.create(piece)

    def rules(self) -> list[Any]:
        return list(self.client.get_bucket_lifecycle_configuration(Bucket=self.bucket.name)["Rules"])


@pytest.fixture
def new(emulated_aws: Cloud) -> Rig:
    """For a bucket that does not exist."""
    return Rig(Bucket(emulated_aws.name(), REGION))


@pytest.fixture
def old(ministack: Cloud) -> Rig:
    """For a bucket that exists, as somebody made it."""
    return Rig(emulated_bucket(ministack))


def test_from_nothing_all_is_made_in_the_region_and_stands_after(new: Rig) -> None:
    assert new.standing() == {"bucket": False, "public access block": False, "lifecycle rule": False}
    assert new.provisioner.survey()[0] == Piece(
        kind="bucket",
        name=new.bucket.name,
        stands=False,
        about="in eu-west-1; objects are encrypted by S3 itself",
    )
    assert new.wire.counts() == {"HeadBucket": 2}
    new.create_all()
    assert new.standing() == {"bucket": True, "public access block": True, "lifecycle rule": True}
    assert new.client.get_bucket_location(Bucket=new.bucket.name)["LocationConstraint"] == REGION
    closed = new.client.get_public_access_block(Bucket=new.bucket.name)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True} and len(closed) == 4
    [rule] = new.rules()
    assert (rule["Filter"], rule["AbortIncompleteMultipartUpload"]) == (
        {"Prefix": "team/kubeq/"},
        {"DaysAfterInitiation": 7},
    )


def test_making_it_twice_changes_nothing(new: Rig) -> None:
    new.create_all()
    rules = new.rules()
    new.create_all()
    assert new.rules() == rules
    assert set(new.standing().values()) == {True}


def test_rules_that_others_made_stay(old: Rig) -> None:
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}
    old.client.put_bucket_lifecycle_configuration(Bucket=old.bucket.name, LifecycleConfiguration={"Rules": [theirs]})
    assert not old.standing()["lifecycle rule"]
    old.create_all()
    assert old.standing()["lifecycle rule"]
    assert theirs in old.rules()
    other = Rig(old.bucket, "other")
    assert not other.standing()["lifecycle rule"]
    other.create_all()
    assert len(old.rules()) == 3


@pytest.mark.parametrize(
    ("filter", "status", "covers"),
    [
        ({"Prefix": ""}, "Enabled", True),
        ({"Prefix": "team/"}, "Enabled", True),
        ({"Prefix": "team/kubeq/x"}, "Enabled", False),
        ({"Prefix": "other/"}, "Enabled", False),
        ({"Prefix": ""}, "Disabled", False),
        ({"Tag": {"Key": "a", "Value": "b"}}, "Enabled", False),
    ],
)
def test_a_rule_of_the_owners_is_enough_if_it_covers_the_prefix(
    old: Rig, filter: object, status: str, covers: bool
) -> None:
    rule = {"ID": "a", "Status": status, "Filter": filter, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
    old.client.put_bucket_lifecycle_configuration(Bucket=old.bucket.name, LifecycleConfiguration={"Rules": [rule]})
    assert old.standing()["lifecycle rule"] is covers


def test_a_bucket_of_another_account_is_told_before_and_while_it_is_made(new: Rig) -> None:
    new.wire.next("HeadBucket", refuse(403, ""))
    new.wire.next("ListObjectsV2", refuse(403, "AccessDenied", "Access Denied"))
    with pytest.raises(AccessDenied, match=f"the bucket {new.bucket.name} cannot be used"):
        new.provisioner.survey()
    bucket = new.provisioner.survey()[0]
    new.wire.next("CreateBucket", refuse(409, "BucketAlreadyExists"))
    with pytest.raises(Conflict, match="another AWS account has one of that name") as taken:
        new.provisioner.create(bucket)
    assert "choose another name" in (taken.value.hint or "")


def test_what_fails_for_a_moment_is_repeated_and_a_lost_answer_is_no_failure(new: Rig) -> None:
    new.wire.next("HeadBucket", cut)
    new.wire.next("CreateBucket", refuse(409, "OperationAborted"), lose_the_answer)
    new.create_all()
    assert set(new.standing().values()) == {True}
    assert len(new.pauses) == 3


def test_a_bucket_that_does_not_show_yet_is_waited_for(new: Rig) -> None:
    bucket = new.provisioner.survey()[0]
    new.wire.next("HeadBucket", refuse(404, ""), refuse(404, ""))
    new.provisioner.create(bucket)
    assert len(new.pauses) == 2
    new.wire.next("HeadBucket", *[refuse(404, "")] * 9)
    with pytest.raises(BackendError, match="was made and does not show yet"):
        new.provisioner.create(bucket)


def test_the_eldest_region_is_not_named(emulated_aws: Cloud) -> None:
    rig = Rig(Bucket(emulated_aws.name(), "us-east-1"))
    rig.create_all()
    assert rig.standing()["bucket"]
    assert not rig.wire.of("CreateBucket")[0].body


def test_a_node_may_use_objects_below_the_prefix_and_list_the_bucket(new: Rig) -> None:
    objects = ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject")
    arn = f"arn:aws:s3:::{new.bucket.name}"
    assert new.provisioner.node_permissions() == [
        Permission(actions=objects, resources=(f"{arn}/team/kubeq/*",)),
        Permission(actions=("s3:ListBucket",), resources=(arn,)),
    ]
    whole = S3Provisioner(new.bucket).node_permissions()
    assert whole[0].resources == (f"{arn}/*",)
    odd = S3Provisioner(new.bucket, "a*b?c$d").node_permissions()
    assert odd[0].resources == (f"{arn}/a${{*}}b${{?}}c${{$}}d/*",)
    assert new.wire.counts() == {}


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_resources_are_named_as_in_their_part_of_aws(region: str, partition: str) -> None:
    provisioner = open_provisioner("s3://bucket/p", region)
    assert provisioner is not None and provisioner.cloud == "aws"
    assert provisioner.node_permissions()[1].resources == (f"arn:{partition}:s3:::bucket",)


ACTIONS = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An emulated AWS that enforces what identities may do."""
    with emulated(tmp_path_factory.mktemp("strict"), AUTH="true") as cloud:
        yield cloud


def as_a_node(cloud: Cloud, bucket: Bucket, without: str | None = None) -> Bucket:
    """The bucket as an identity sees it that has the printed permissions, or all but one of them."""
    allowed = [
        {
            "Effect": "Allow",
            "Action": [action for action in permission.actions if action != without],
            "Resource": permission.resources,
        }
        for permission in S3Provisioner(bucket, PREFIX).node_permissions()
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [part for part in allowed if part["Action"]]})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        iam = aws.client("iam", REGION, Meter())
        user = cloud.name()
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="node", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
    return as_somebody(cloud, bucket, key["AccessKeyId"], key["SecretAccessKey"])


def everything(store: S3Store) -> None:
    """All that a store is ever asked for."""
    large = bytes(PART + 1)
    for key, content in (("a", b"1"), ("b", large)):
        digest = Digest.of(content)
        assert store.put(key, partial(io.BytesIO, content), digest.size, digest.sha256)
    with store.get("b") as stream:
        assert stream.read() == large
    assert store.stat(["a", "b", "c"]) == {"a": 1, "b": len(large)}
    assert store.stat(["c"]) == {}
    assert [stored.key for stored in store.list("")] == ["a", "b"]
    with pytest.raises(IntegrityError):
        store.put("c", lambda: io.BytesIO(large), PART + 1, "0" * 64)
    store.delete(["a", "b"])


def test_a_node_with_the_printed_permissions_can_do_all_that_a_store_does_and_nothing_beside(strict: Cloud) -> None:
    bucket = emulated_bucket(strict)
    node = as_a_node(strict, bucket)
    everything(S3Store(node, PREFIX))
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name)
    beside = S3Store(node, "somebody else")
    for call in (lambda: beside.put("a", io.BytesIO, 0, Digest.of(b"").sha256), lambda: beside.delete(["a"])):
        with pytest.raises(AccessDenied):
            call()
    with pytest.raises(AccessDenied):
        S3Provisioner(node, PREFIX).survey()


@pytest.mark.parametrize("without", ACTIONS)
def test_every_permission_that_is_printed_is_needed(strict: Cloud, without: str) -> None:
    bucket = emulated_bucket(strict)
    node = as_a_node(strict, bucket, without)
    if without == "s3:AbortMultipartUpload":
        everything(S3Store(node, PREFIX))
        assert len(bucket.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]) == 1
        return
    with pytest.raises(AccessDenied, match=without):
        everything(S3Store(node, PREFIX))
