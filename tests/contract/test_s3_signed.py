"""The S3 store against a server that checks signatures and checksums as S3 does."""

from __future__ import annotations

import base64
import hashlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any

import pytest

from kubeq.core.digest import Digest
from kubeq.errors import AccessDenied, BackendError
from kubeq.store.retry import Retrying
from kubeq.store.s3 import S3Store
from kubeq.store.s3_bucket import Bucket
from kubeq.store.sending import PART
from tests.stand_ins.ministack import Cloud
from tests.stand_ins.s3 import PREFIX, as_somebody, emulated_bucket, impatient

LARGE = random.Random(4).randbytes(2 * PART + 1)


@pytest.fixture(scope="module")
def bucket(seaweedfs: Cloud) -> Bucket:
    return emulated_bucket(seaweedfs)


@pytest.fixture
def store(bucket: Bucket) -> S3Store:
    """Below a prefix of the test's own."""
    return S3Store(bucket, f"{PREFIX}/{token_hex(4)}", patience=impatient())


def put(store: S3Store, key: str, content: bytes) -> bool:
    digest = Digest.of(content)
    return store.put(key, lambda: io.BytesIO(content), digest.size, digest.sha256)


@pytest.mark.parametrize("content", [b"", b"1", LARGE[: PART - 1], LARGE], ids=len)
def test_what_was_put_is_read_listed_and_deleted(store: S3Store, content: bytes) -> None:
    assert put(store, "a/b", content)
    with store.get("a/b") as stream:
        assert stream.read() == content
    with store.get("a/b", len(content) // 2) as stream:
        assert stream.read() == content[len(content) // 2 :]
    assert store.stat(["a/b", "a/c"]) == {"a/b": len(content)}
    assert [(stored.key, stored.size) for stored in store.list("a/")] == [("a/b", len(content))]
    store.delete(["a/b"])
    assert list(store.list("")) == []


@pytest.mark.parametrize("content", [b"1", LARGE], ids=["small", "large"])
def test_the_service_refuses_to_overwrite(store: S3Store, bucket: Bucket, content: bytes) -> None:
    def meanwhile(**_: object) -> None:
        bucket.client.put_object(Bucket=bucket.name, Key=f"{store._root}a", Body=b"first")

    bucket.client.meta.events.register("before-call.s3.CompleteMultipartUpload", meanwhile, unique_id="meanwhile")
    try:
        if content == b"1":
            meanwhile()
        assert not put(store, "a", content)
    finally:
        bucket.client.meta.events.unregister("before-call.s3.CompleteMultipartUpload", unique_id="meanwhile")
    with store.get("a") as stream:
        assert stream.read() == b"first"
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name)


def test_of_several_that_put_one_key_at_once_one_creates_it(store: S3Store) -> None:
    contents = [bytes([number]) * 1000 for number in range(4)]
    retrying = Retrying(store, lambda pause: None)
    with ThreadPoolExecutor(4) as threads:
        created = list(
            threads.map(
                lambda content: retrying.put("a", lambda: io.BytesIO(content), 1000, Digest.of(content).sha256),
                contents,
            )
        )
    assert created.count(True) == 1
    with store.get("a") as stream:
        assert stream.read() == contents[created.index(True)]


@pytest.mark.parametrize(("operation", "content"), [("PutObject", b"1"), ("UploadPart", LARGE)], ids=["small", "large"])
def test_bytes_that_do_not_fit_their_checksum_are_refused_by_the_service(
    store: S3Store, bucket: Bucket, operation: str, content: bytes
) -> None:
    def mangle(params: Any, **_: object) -> None:
        """As if the bytes had changed on their way; before the request is signed, so that the signature is right."""
        params["headers"]["x-amz-checksum-sha256"] = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

    bucket.client.meta.events.register(f"before-call.s3.{operation}", mangle, unique_id="mangle")
    try:
        with pytest.raises(BackendError, match="BadDigest") as refused:
            put(store, "a", content)
    finally:
        bucket.client.meta.events.unregister(f"before-call.s3.{operation}", unique_id="mangle")
    assert refused.value.transient
    assert store.stat(["a"]) == {}
    assert put(store, "a", content)


def test_the_service_keeps_the_checksum_that_was_announced(store: S3Store, bucket: Bucket) -> None:
    put(store, "a", b"1")
    kept = bucket.client.head_object(Bucket=bucket.name, Key=f"{store._root}a", ChecksumMode="ENABLED")
    assert kept["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"1").digest()).decode()


@pytest.mark.parametrize(
    ("key", "secret", "words"),
    [
        ("test", "wrong", "does not know the secret key that belongs to the access key"),
        ("nobody", "test", "the access key"),
    ],
)
def test_credentials_that_are_wrong_have_their_sentence(
    seaweedfs: Cloud, bucket: Bucket, key: str, secret: str, words: str
) -> None:
    store = S3Store(as_somebody(seaweedfs, bucket, key, secret), PREFIX, patience=impatient())
    for call in (lambda: put(store, "a", b"1"), lambda: store.stat(["a"]), lambda: store.get("a")):
        with pytest.raises(AccessDenied, match=words) as denied:
            call()
        assert "AWS_ACCESS_KEY_ID" in (denied.value.hint or "")


def test_a_bucket_that_is_not_there_is_named(seaweedfs: Cloud, bucket: Bucket) -> None:
    absent = Bucket(f"{bucket.name}-absent")
    absent._client = bucket.client
    with pytest.raises(BackendError, match=f"the bucket {absent.name} does not exist"):
        put(S3Store(absent), "a", b"1")
