"""S3 stores for tests: in a bucket of their own of an emulated AWS, or in a real bucket that the environment names."""

from __future__ import annotations

import boto3
import pytest
from botocore.config import Config

from kubeq.store.patience import Patience
from kubeq.store.s3 import S3Store
from kubeq.store.s3_bucket import Bucket
from tests.stand_ins.ministack import REGION, Cloud

PREFIX = "team a/kubeq é"
LIVE = "KUBEQ_LIVE_S3"
"""In the environment: the `s3://BUCKET/PREFIX` in which `pytest -m live` may make and delete objects."""


def impatient(pauses: list[float] | None = None) -> Patience:
    """Tries often and waits never; what it would have waited is noted."""
    return Patience(sleep=(pauses if pauses is not None else []).append, attempts=4, draw=lambda: 0.999)


def emulated_bucket(cloud: Cloud) -> Bucket:
    """A new bucket of that cloud, whatever the environment says later."""
    bucket = Bucket(cloud.name(), REGION)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        bucket.client.create_bucket(Bucket=bucket.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return bucket


def as_somebody(cloud: Cloud, bucket: Bucket, key: str, secret: str) -> Bucket:
    """The same bucket for requests that are signed with those credentials."""
    seen = Bucket(bucket.name, REGION)
    seen._client = boto3.session.Session().client(
        "s3",
        region_name=REGION,
        endpoint_url=cloud.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )
    return seen


def emulated_store(cloud: Cloud) -> S3Store:
    """A store below a prefix of a new bucket."""
    return S3Store(emulated_bucket(cloud), PREFIX, patience=impatient())
