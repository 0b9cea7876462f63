"""What an S3 store needs in its account, and what a node may do there: the words and deeds of `kubeq setup`.

A bucket that nobody outside can read, and a rule in it that removes the parts of uploads that were never completed,
which are paid for but not shown. Everything else about a bucket is its owner's affair and is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast
from urllib.parse import SplitResult

from kubeq.aws_errors import code_of
from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import BackendError, Conflict
from kubeq.store.bucket_urls import parse_url
from kubeq.store.patience import Patience
from kubeq.store.s3_bucket import Bucket

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import (
        LifecycleRuleOutputTypeDef,
        LifecycleRuleUnionTypeDef,
        PublicAccessBlockConfigurationTypeDef,
        PutBucketLifecycleConfigurationRequestTypeDef,
    )

BUCKET, CLOSED, RULE = "bucket", "public access block", "lifecycle rule"
UNFINISHED_DAYS = 7
"""After so long nobody completes an upload any more; kubeq itself gives up after minutes."""
UNNAMED_REGION = "us-east-1"
"""The one region that CreateBucket must not be told (S3 API reference)."""
_RULE_ID = "kubeq: unfinished uploads, "
_ALL_CLOSED: PublicAccessBlockConfigurationTypeDef = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


class S3Provisioner:
    """Makes a bucket and what belongs to it; each request is repeated where it failed for a moment."""

    cloud: ClassVar[str] = "aws"

    def __init__(self, bucket: Bucket, prefix: str = "", *, patience: Patience | None = None) -> None:
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._again = (patience or Patience()).repeat

    @property
    def requests(self) -> Mapping[str, int]:
        """See Provisioner."""
        return self._bucket.meter.read()

    def survey(self) -> Sequence[Piece]:
        """The bucket, its being closed to the public, and the rule. Service requests: HeadBucket, and two if it stands.

        Raises AccessDenied for a bucket of somebody else's.
        """
        name, region = self._bucket.name, self._bucket.client.meta.region_name
        stands = self._again(self._exists)
        about = "objects are encrypted by S3 itself" if stands else f"in {region}; objects are encrypted by S3 itself"
        closed, ruled = stands and self._again(self._closed), stands and self._again(self._ruled)
        days = f"parts of uploads that were given up are removed after {UNFINISHED_DAYS} days"
        return [
            Piece(kind=BUCKET, name=name, stands=stands, about=about),
            Piece(kind=CLOSED, name=name, stands=closed, about="nobody outside can read it"),
            Piece(kind=RULE, name=name, stands=ruled, about=days),
        ]

    def create(self, piece: Piece) -> None:
        """Make it; what stands already, or was made by somebody else meanwhile, is left alone."""
        deeds: dict[str, Callable[[], None]] = {BUCKET: self._make, CLOSED: self._close, RULE: self._add_rule}
        self._again(deeds[piece.kind])
        if piece.kind == BUCKET:
            self._again(self._require)

    def node_permissions(self) -> Sequence[Permission]:
        """To read, write and delete objects below the prefix, and to list the bucket."""
        bucket = f"arn:{self._bucket.client.meta.partition}:s3:::{self._bucket.name}"
        below = re.sub(r"[*?$]", r"${\g<0>}", self._root)  # IAM user guide, "Policy variables": special characters
        objects = ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject")
        return [
            Permission(actions=objects, resources=(f"{bucket}/{below}*",)),
            Permission(actions=("s3:ListBucket",), resources=(bucket,)),
        ]

    def _exists(self) -> bool:
        with self._bucket.asked() as client:
            try:
                client.head_bucket(Bucket=self._bucket.name)
            except client.exceptions.ClientError as error:
                if code_of(error) == "404":
                    return False
                if code_of(error) == "403":
                    self._bucket.listing("", "", most=1)  # whose refusal has words
                raise
        return True

    def _require(self) -> None:
        if not self._exists():
            raise BackendError(f"{self._bucket} was made and does not show yet", transient=True)

    def _make(self) -> None:
        with self._bucket.asked() as client:
            region = client.meta.region_name
            try:
                if region == UNNAMED_REGION:
                    client.create_bucket(Bucket=self._bucket.name)
                else:
                    place = cast("BucketLocationConstraintType", region)
                    client.create_bucket(
                        Bucket=self._bucket.name, CreateBucketConfiguration={"LocationConstraint": place}
                    )
            except client.exceptions.ClientError as error:
                match code_of(error):
                    case "BucketAlreadyOwnedByYou":
                        return
                    case "BucketAlreadyExists":
                        raise Conflict(
                            f"{self._bucket} cannot be made: another AWS account has one of that name",
                            hint="choose another name; bucket names are shared by all accounts",
                        ) from error
                raise

    def _closed(self) -> bool:
        with self._bucket.asked() as client:
            try:
                answer = client.get_public_access_block(Bucket=self._bucket.name)
            except client.exceptions.ClientError as error:
                if code_of(error) == "NoSuchPublicAccessBlockConfiguration":
                    return False
                raise
        return answer["PublicAccessBlockConfiguration"] == _ALL_CLOSED

    def _close(self) -> None:
        with self._bucket.asked() as client:
            client.put_public_access_block(Bucket=self._bucket.name, PublicAccessBlockConfiguration=_ALL_CLOSED)

    def _ruled(self) -> bool:
        return any(self._covers(rule) for rule in self._rules()["LifecycleConfiguration"]["Rules"])

    def _covers(self, rule: LifecycleRuleUnionTypeDef) -> bool:
        chosen: Mapping[str, object] = rule.get("Filter", {})
        narrower = chosen.keys() - {"Prefix"}
        prefix = str(chosen.get("Prefix", rule.get("Prefix", "")))
        return (
            rule["Status"] == "Enabled"
            and "AbortIncompleteMultipartUpload" in rule
            and not narrower
            and self._root.startswith(prefix)
        )

    def _rules(self) -> PutBucketLifecycleConfigurationRequestTypeDef:
        """The request that would leave the rules of the bucket as they are: S3 knows only all of them together."""
        with self._bucket.asked() as client:
            try:
                answer = client.get_bucket_lifecycle_configuration(Bucket=self._bucket.name)
            except client.exceptions.ClientError as error:
                if code_of(error) == "NoSuchLifecycleConfiguration":
                    return {"Bucket": self._bucket.name, "LifecycleConfiguration": {"Rules": []}}
                raise
        same: PutBucketLifecycleConfigurationRequestTypeDef = {
            "Bucket": self._bucket.name,
            "LifecycleConfiguration": {"Rules": answer["Rules"]},
        }
        if "TransitionDefaultMinimumObjectSize" in answer:
            same["TransitionDefaultMinimumObjectSize"] = answer["TransitionDefaultMinimumObjectSize"]
        return same

    def _add_rule(self) -> None:
        request = self._rules()
        ours: LifecycleRuleOutputTypeDef = {
            "ID": _RULE_ID + (self._root or "everything"),
            "Status": "Enabled",
            "Filter": {"Prefix": self._root},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_DAYS},
        }
        others = [rule for rule in request["LifecycleConfiguration"]["Rules"] if rule.get("ID") != ours["ID"]]
        request["LifecycleConfiguration"] = {"Rules": [*others, ours]}
        with self._bucket.asked() as client:
            client.put_bucket_lifecycle_configuration(**request)


def open_s3_provisioner(parts: SplitResult, region: str | None) -> S3Provisioner:
    """What makes the store at that URL, in that region or, without one, in the SDK's own."""
    bucket, prefix = parse_url(parts)
    return S3Provisioner(Bucket(bucket, region), prefix)
