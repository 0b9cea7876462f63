"""What the S3 store does beyond the contract of all stores: which requests it makes, and what it makes of bad answers.

The emulator is asked for everything that is not made up in the SDK's hook; what it would not notice is asserted on the
requests. Signatures and checksums are put to a server that checks them in test_s3_signed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest

from kubeq.core.digest import Digest
from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound
from kubeq.store import s3_bucket
from kubeq.store.blobs import Blobs
from kubeq.store.open import open_store
from kubeq.store.retry import Retrying
from kubeq.store.s3 import S3Store
from kubeq.store.s3_bucket import Bucket
from kubeq.store.s3_parts import _part_size
from kubeq.store.sending import AT_ONCE, PART, SMALL
from tests.stand_ins.ministack import Cloud
from tests.stand_ins.s3 import PREFIX, emulated_bucket, impatient
from tests.stand_ins.wire import Wire, answer, cut, lose_the_answer, refuse

ROOT = Path(__file__).parents[2]
LARGE = random.Random(3).randbytes(2 * PART + 1)
PARTS = 3
SLOW_DOWN = refuse(503, "SlowDown", "Please reduce your request rate.")


class Rig:
    """A store in a bucket of its own, its line to S3, and the same store as commands have it."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.pauses: list[float] = []
        self.store = S3Store(bucket, PREFIX, patience=impatient(self.pauses))
        self.wire = Wire(bucket.client)
        self.outer_pauses: list[float] = []
        self.retrying = Retrying(self.store, self.outer_pauses.append, attempts=4)

    def put(self, key: str, content: bytes, store: S3Store | Retrying | None = None) -> bool:
        digest = Digest.of(content)
        return (store or self.store).put(key, lambda: io.BytesIO(content), digest.size, digest.sha256)

    def read(self, key: str, start: int = 0) -> bytes:
        with self.retrying.get(key, start) as stream:
            return stream.read()

    def unfinished(self) -> int:
        """How many uploads S3 still keeps parts of."""
        return len(self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name).get("Uploads", ()))


@pytest.fixture
def rig(ministack: Cloud) -> Rig:
    return Rig(emulated_bucket(ministack))


def encoded(content: bytes) -> bytes:
    return base64.b64encode(hashlib.sha256(content).digest())


# What is sent


@pytest.mark.parametrize("size", [0, 1, s3_bucket.SENT_UNASKED, s3_bucket.SENT_UNASKED + 1, PART])
def test_a_put_is_one_request_with_its_condition_and_its_checksum(rig: Rig, size: int) -> None:
    content = LARGE[:size]
    assert rig.put("a", content)
    assert rig.wire.counts() == {"PutObject": 1}
    headers = rig.wire.of("PutObject")[0].headers
    assert headers["If-None-Match"] == b"*"
    assert headers["x-amz-checksum-sha256"] == encoded(content)
    assert ("Expect" in headers) is (size > s3_bucket.SENT_UNASKED)
    assert rig.read("a") == content


def test_a_large_put_has_a_checksum_a_part_and_its_condition_where_it_ends(rig: Rig) -> None:
    assert rig.put("a", LARGE)
    assert rig.wire.counts() == {
        "HeadObject": 1,
        "CreateMultipartUpload": 1,
        "UploadPart": PARTS,
        "CompleteMultipartUpload": 1,
    }
    assert rig.wire.of("CreateMultipartUpload")[0].headers["x-amz-checksum-algorithm"] == b"SHA256"
    sent = {request.headers["x-amz-checksum-sha256"] for request in rig.wire.of("UploadPart")}
    assert sent == {encoded(LARGE[start : start + PART]) for start in range(0, len(LARGE), PART)}
    complete = rig.wire.of("CompleteMultipartUpload")[0]
    assert complete.headers["If-None-Match"] == b"*"
    assert all(checksum in complete.body for checksum in sent)
    assert rig.read("a") == LARGE


def test_a_large_put_of_what_stands_sends_none_of_it(rig: Rig) -> None:
    rig.put("a", b"small")
    assert not rig.put("a", LARGE)
    assert rig.wire.counts() == {"PutObject": 1, "HeadObject": 1}


def test_a_large_put_that_comes_second_leaves_no_parts(rig: Rig) -> None:
    def meanwhile(request: AWSPreparedRequest) -> None:
        assert rig.store.stat(["a"]) == {}, "seen before it was whole"
        rig.put("a", b"first")

    rig.wire.next("CompleteMultipartUpload", meanwhile)
    assert not rig.put("a", LARGE)
    assert rig.read("a") == b"first"
    assert len(rig.wire.of("AbortMultipartUpload")) == 1
    assert rig.unfinished() == 0


@pytest.mark.parametrize(
    ("operation", "size", "puts"),
    [("UploadPart", len(LARGE), 4), ("PutObject", SMALL + 1, 12), ("PutObject", PART, 12)],
)
def test_no_more_is_in_memory_than_one_store_may_have(rig: Rig, operation: str, size: int, puts: int) -> None:
    on_their_way, most = 0, 0
    lock, plenty = threading.Lock(), threading.Event()

    def part(request: AWSPreparedRequest) -> None:
        nonlocal on_their_way, most
        with lock:
            on_their_way += 1
            most = max(most, on_their_way)
            if on_their_way == AT_ONCE:
                plenty.set()
        assert plenty.wait(30)
        with lock:
            on_their_way -= 1

    rig.wire.next(operation, *[part] * 12)
    with ThreadPoolExecutor(puts) as threads:
        assert all(threads.map(lambda number: rig.put(f"k/{number}", LARGE[:size]), range(puts)))
    assert most == AT_ONCE


def test_parts_grow_with_the_object_so_that_their_number_is_allowed() -> None:
    for size in (PART + 1, 10**10, 5 * 2**40):
        part = _part_size(size)
        assert part % 2**20 == 0
        assert PART <= part <= 5 * 2**30
        assert -(-size // part) <= 10_000


def test_progress_of_a_large_upload_adds_up(rig: Rig) -> None:
    told: list[int] = []
    rig.wire.next("UploadPart", SLOW_DOWN, cut)
    Blobs(rig.retrying).upload({Digest.of(LARGE): lambda: io.BytesIO(LARGE)}, progress=told.append)
    assert sum(told) == len(LARGE)
    assert len(told) >= PARTS


def test_what_is_not_ours_in_the_bucket_is_not_seen(rig: Rig) -> None:
    rig.put("a/b", b"ours")
    for name in ("a/b", f"{PREFIX}/a/", f"{PREFIX}/a//c", f"{PREFIX}x/a", PREFIX):
        rig.bucket.client.put_object(Bucket=rig.bucket.name, Key=name, Body=b"theirs")
    assert [stored.key for stored in rig.store.list("")] == ["a/b"]
    assert rig.store.stat(["a/b", "a"]) == {"a/b": 4}


def test_the_url_opens_the_same_store_by_the_environment(rig: Rig, emulated_aws: Cloud) -> None:
    rig.put("a", b"1")
    store = open_store(rig.store.url)
    assert store.url == rig.store.url
    with store.get("a") as stream:
        assert stream.read() == b"1"


# What many keys cost


def test_few_sizes_are_asked_for_one_by_one(rig: Rig) -> None:
    rig.put("a", b"1")
    before = rig.wire.counts()
    assert rig.store.stat(["a", *(f"absent/{number}" for number in range(20))]) == {"a": 1}
    assert rig.wire.counts() == before | {"HeadObject": 21}


def test_sizes_of_neighbours_are_read_off_a_listing(rig: Rig) -> None:
    names = [f"k/{number:04d}" for number in range(2000)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: rig.put(name, b"12"), names[::2]))
    before = rig.wire.counts()
    assert rig.store.stat(names) == dict.fromkeys(names[::2], 2)
    assert rig.wire.counts() == before | {"ListObjectsV2": 13}


def test_sizes_of_blobs_among_many_others_cost_hardly_more_than_one_by_one(rig: Rig) -> None:
    draw = random.Random(5)
    wanted = sorted(f"blobs/{draw.getrandbits(32):08x}" for _ in range(300))
    crowd = [f"{name}-{number}" for name in wanted[100:110] for number in range(110)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: rig.put(name, b"12"), crowd + wanted[::3]))
    before = rig.wire.counts()
    assert rig.store.stat(wanted) == dict.fromkeys(wanted[::3], 2)
    asked = {name: count - before.get(name, 0) for name, count in rig.wire.counts().items()}
    assert asked["ListObjectsV2"] <= 3
    assert asked.get("HeadObject", 0) <= 300


@pytest.mark.parametrize("count", [1, 100, 500])
def test_absent_keys_are_told_from_an_absent_bucket(rig: Rig, count: int) -> None:
    keys = [f"k/{number}" for number in range(count)]
    assert rig.store.stat(keys) == {}
    rig.bucket.client.delete_bucket(Bucket=rig.bucket.name)
    with pytest.raises(BackendError, match=f"the bucket {rig.bucket.name} does not exist"):
        rig.store.stat(keys)


def test_deletions_go_a_thousand_at_a_time(rig: Rig) -> None:
    keys = [f"k/{number}" for number in range(2500)]
    rig.put(keys[0], b"1")
    rig.put(keys[2499], b"1")
    rig.store.delete(keys)
    assert rig.wire.counts()["DeleteObjects"] == 3
    assert list(rig.store.list("")) == []


# What fails for a moment


@pytest.mark.parametrize("reply", [SLOW_DOWN, refuse(500, "InternalError"), refuse(429, "TooManyRequests"), cut])
def test_a_call_of_one_request_is_left_to_the_wrapper(rig: Rig, reply: Callable[..., object]) -> None:
    rig.put("a", b"1")
    calls: list[tuple[str, Callable[[], object]]] = [
        ("PutObject", lambda: rig.put("b", b"2")),
        ("GetObject", lambda: rig.store.get("a")),
        ("ListObjectsV2", lambda: list(rig.store.list(""))),
    ]
    for operation, call in calls:
        rig.wire.next(operation, reply)  # type: ignore[arg-type]
        with pytest.raises(BackendError) as failed:
            call()
        assert (failed.value.transient, failed.value.waited) == (True, False), operation
    assert rig.pauses == []


def test_throttling_in_the_middle_of_an_upload_costs_the_parts_concerned_only(rig: Rig) -> None:
    rig.wire.next("UploadPart", SLOW_DOWN, SLOW_DOWN, cut)
    rig.wire.next("CreateMultipartUpload", SLOW_DOWN)
    rig.wire.next("CompleteMultipartUpload", refuse(200, "InternalError", "We encountered an internal error."))
    assert rig.put("a", LARGE, rig.retrying)
    assert rig.read("a") == LARGE
    assert rig.wire.counts()["UploadPart"] == PARTS + 3
    assert (len(rig.pauses), rig.outer_pauses) == (5, [])


def test_one_slow_answer_of_thousands_does_not_repeat_the_others(rig: Rig) -> None:
    keys = [f"k/{number}" for number in range(60)]
    rig.put(keys[7], b"1")
    rig.wire.next("HeadObject", refuse(503, ""), refuse(503, ""))
    rig.wire.next("DeleteObjects", SLOW_DOWN)
    assert rig.retrying.stat(keys) == {keys[7]: 1}
    assert len(rig.wire.of("HeadObject")) == 62
    rig.retrying.delete(keys)
    assert len(rig.wire.of("DeleteObjects")) == 2
    assert rig.outer_pauses == []


def test_what_fails_for_good_is_tried_four_times_and_not_sixteen(rig: Rig) -> None:
    rig.wire.next("UploadPart", *[SLOW_DOWN] * 100)
    with pytest.raises(BackendError, match="is throttled by AWS") as failed:
        rig.put("a", LARGE, rig.retrying)
    assert (failed.value.transient, failed.value.waited) == (True, True)
    assert rig.outer_pauses == []
    assert rig.wire.counts()["UploadPart"] <= 4 * PARTS
    assert rig.wire.counts()["CreateMultipartUpload"] == rig.wire.counts()["AbortMultipartUpload"] == 1
    assert rig.unfinished() == 0


def test_a_deletion_that_s3_refuses_for_some_keys_is_reported_or_repeated(rig: Rig) -> None:
    def failed(code: str, *keys: str) -> bytes:
        errors = "".join(
            f"<Error><Key>{key}</Key><Code>{code}</Code><Message>because</Message></Error>" for key in keys
        )
        return f"<DeleteResult>{errors}</DeleteResult>".encode()

    rig.put("a", b"1")
    rig.wire.next("DeleteObjects", answer(200, failed("SlowDown", "p/a")), answer(200, failed("InternalError", "p/a")))
    rig.store.delete(["a", "b"])
    assert rig.store.stat(["a"]) == {}
    assert len(rig.pauses) == 2
    rig.wire.next("DeleteObjects", answer(200, failed("AccessDenied", "p/a", "p/b", "p/c")))
    with pytest.raises(AccessDenied, match=r"did not delete p/a and 2 more: AccessDenied: because") as denied:
        rig.store.delete(["a", "b", "c"])
    assert "s3:DeleteObject" in (denied.value.hint or "")


# Lost answers


def test_a_put_that_never_arrived_is_made_again(rig: Rig) -> None:
    rig.wire.next("PutObject", cut)
    assert rig.put("a", b"1", rig.retrying)


def test_a_put_whose_answer_was_lost_is_false_and_stands_and_an_upload_of_it_succeeds(rig: Rig) -> None:
    rig.wire.next("PutObject", lose_the_answer)
    assert not rig.put("a", b"1", rig.retrying)
    assert rig.read("a") == b"1"
    digest = Digest.of(b"a blob")
    rig.wire.next("PutObject", lose_the_answer)
    Blobs(rig.retrying).upload({digest: lambda: io.BytesIO(b"a blob")})
    assert Blobs(rig.retrying).read(digest) == b"a blob"


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_answer_lost_in_the_middle_of_a_large_upload_loses_nothing(rig: Rig, operation: str) -> None:
    rig.wire.next(operation, lose_the_answer)
    assert rig.put("a", LARGE, rig.retrying)
    assert rig.read("a") == LARGE
    assert rig.wire.counts()["UploadPart"] == PARTS + (operation == "UploadPart")
    assert rig.outer_pauses == []


def test_a_large_put_that_finds_its_own_object_is_false_and_the_object_stands(rig: Rig) -> None:
    rig.wire.next("CompleteMultipartUpload", lose_the_answer, refuse(412, "PreconditionFailed"))
    assert not rig.put("a", LARGE, rig.retrying)
    assert rig.read("a") == LARGE


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "NoSuchUpload"])
def test_an_upload_that_s3_wants_from_the_start_again_is_begun_anew(rig: Rig, code: str) -> None:
    rig.wire.next("CompleteMultipartUpload", refuse(409 if code.startswith("C") else 404, code))
    assert rig.put("a", LARGE, rig.retrying)
    assert rig.read("a") == LARGE
    assert (len(rig.outer_pauses), rig.wire.counts()["CreateMultipartUpload"]) == (1, 2)
    assert rig.unfinished() == 0


def test_a_put_beside_another_of_the_same_key_is_made_again(rig: Rig) -> None:
    rig.wire.next("PutObject", refuse(409, "ConditionalRequestConflict"))
    assert rig.put("a", b"1", rig.retrying)
    assert len(rig.outer_pauses) == 1


# What is wrong


@pytest.mark.parametrize(
    "lie",
    [LARGE[:-1], LARGE + b"x", LARGE[:PART], b"", LARGE[:PART] + b"x" + LARGE[PART + 1 :]],
    ids=["short", "long", "one part", "empty", "another hash"],
)
def test_a_large_source_that_lies_is_refused_and_nothing_is_left(rig: Rig, lie: bytes) -> None:
    digest = Digest.of(LARGE)
    with pytest.raises(IntegrityError, match=r"a/liar is not the announced"):
        rig.store.put("a/liar", lambda: io.BytesIO(lie), digest.size, digest.sha256)
    assert rig.store.stat(["a/liar"]) == {}
    assert len(rig.wire.of("AbortMultipartUpload")) == 1
    assert rig.unfinished() == 0


def test_a_large_source_that_cannot_be_read_to_its_end_leaves_no_parts(rig: Rig) -> None:
    class Failing(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            if self.tell() > PART:
                raise OSError("the disk is gone")
            return super().read(count)

    digest = Digest.of(LARGE)
    with pytest.raises(OSError, match="the disk is gone"):
        rig.store.put("a", lambda: Failing(LARGE), digest.size, digest.sha256)
    assert rig.unfinished() == 0


def test_a_blob_that_was_corrupted_in_the_store_is_never_delivered(rig: Rig, tmp_path: Path) -> None:
    blobs, digest = Blobs(rig.retrying), Digest.of(LARGE)
    blobs.upload({digest: lambda: io.BytesIO(LARGE)})
    name = next(stored.key for stored in rig.store.list("blobs/"))
    spoilt = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    rig.bucket.client.put_object(Bucket=rig.bucket.name, Key=f"{PREFIX}/{name}", Body=spoilt)
    with pytest.raises(IntegrityError, match="are not what its digest says") as wrong:
        blobs.download(digest, tmp_path / "out")
    assert f"s3://{rig.bucket.name}/" in (wrong.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_were_mangled_on_the_way_are_sent_again(rig: Rig) -> None:
    def mangled(request: AWSPreparedRequest) -> None:
        request.body = b"2"

    rig.wire.next("PutObject", mangled)
    assert rig.put("a", b"1", rig.retrying)
    assert rig.read("a") == b"1"
    assert len(rig.outer_pauses) == 1


@pytest.mark.parametrize("start", [0, 5])
def test_a_body_that_breaks_goes_on_where_it_broke(rig: Rig, start: int) -> None:
    rig.put("a", LARGE[:1_000_000])
    whole = LARGE[start:1_000_000]

    def broken(request: AWSPreparedRequest) -> object:
        said = {"content-length": str(len(whole)), "content-range": f"bytes {start}-999999/1000000"}
        response = answer(206 if start else 200, b"", said)(request)
        response.raw = io.BytesIO(whole[:300_000])  # type: ignore[union-attr]
        return response

    rig.wire.next("GetObject", broken)  # type: ignore[arg-type]
    assert rig.read("a", start) == whole
    resumed = rig.wire.of("GetObject")[1].headers["Range"]
    assert int(resumed.decode().removeprefix("bytes=").rstrip("-")) > start


# What is refused


def test_credentials_that_expire_in_the_middle_end_the_upload_with_their_sentence(rig: Rig) -> None:
    rig.wire.next("UploadPart", lambda request: None, refuse(400, "ExpiredToken"))
    with pytest.raises(AccessDenied, match="the AWS credentials have expired") as denied:
        rig.put("a", LARGE, rig.retrying)
    assert "log in again" in (denied.value.hint or "")
    assert rig.pauses == rig.outer_pauses == []
    assert rig.wire.counts()["AbortMultipartUpload"] == 1
    assert rig.store.stat(["a"]) == {}


def test_an_abort_that_fails_as_well_does_not_hide_why(rig: Rig) -> None:
    expired = refuse(400, "ExpiredToken")
    rig.wire.next("UploadPart", expired)
    rig.wire.next("AbortMultipartUpload", expired)
    with pytest.raises(AccessDenied, match="the AWS credentials have expired"):
        rig.put("a", LARGE)


def test_a_refusal_without_words_is_asked_for_its_reason(rig: Rig) -> None:
    expired = refuse(400, "ExpiredToken")
    rig.wire.next("HeadObject", refuse(403, ""), refuse(403, ""))
    rig.wire.next("ListObjectsV2", expired)
    with pytest.raises(AccessDenied, match="the AWS credentials have expired"):
        rig.store.stat(["a"])
    with pytest.raises(AccessDenied, match="does not permit s3:GetObject"):
        rig.store.stat(["a"])


@pytest.mark.parametrize(
    ("operation", "action"),
    [("PutObject", "s3:PutObject"), ("GetObject", "s3:GetObject"), ("ListObjectsV2", "s3:ListBucket")],
)
def test_a_permission_that_lacks_is_named(rig: Rig, operation: str, action: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "PutObject": lambda: rig.put("a", b"1"),
        "GetObject": lambda: rig.store.get("a"),
        "ListObjectsV2": lambda: list(rig.store.list("")),
    }
    rig.wire.next(operation, refuse(403, "AccessDenied", "User: x is not authorized"))
    with pytest.raises(AccessDenied, match=f"the bucket {rig.bucket.name} .* {action}: User: x") as denied:
        calls[operation]()
    assert not denied.value.transient


def test_a_bucket_that_was_deleted_in_the_middle_is_named_by_every_call(rig: Rig) -> None:
    rig.bucket.client.delete_bucket(Bucket=rig.bucket.name)
    calls: list[Callable[[], object]] = [
        lambda: rig.put("a", b"1"),
        lambda: rig.put("a", LARGE),
        lambda: rig.retrying.get("a"),
        lambda: rig.store.stat(["a"]),
        lambda: list(rig.store.list("")),
        lambda: rig.store.delete(["a"]),
    ]
    for call in calls:
        with pytest.raises(BackendError, match=f"the bucket {rig.bucket.name} does not exist") as gone:
            call()
        assert "kubeq setup" in (gone.value.hint or "")
        assert not isinstance(gone.value, ObjectNotFound)
    assert rig.pauses == rig.outer_pauses == []


def test_a_bucket_of_another_region_is_followed_there(rig: Rig, emulated_aws: Cloud) -> None:
    there = Bucket(emulated_aws.name(), "us-west-2")
    there.client.create_bucket(Bucket=there.name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    other = Rig(Bucket(there.name, "eu-west-1"))
    assert other.put("a", b"1")
    assert other.read("a") == b"1"
    assert other.store.stat(["a"]) == {"a": 1}
    assert len(other.wire.of("PutObject")) == 2
    assert other.pauses == other.outer_pauses == []


def test_without_the_sdk_the_hint_is_how_to_get_it() -> None:
    program = "import sys; sys.modules['boto3'] = None\nfrom kubeq.store.open import open_store\n"
    program += "from kubeq.errors import BackendError\nstore = open_store('s3://bucket/p')\n"
    program += "try: store.stat(['a'])\nexcept BackendError as error: print(error.message, '|', error.hint)"
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert (
        done.stdout == "the Python package boto3.exceptions is needed and is not installed | pip install 'kubeq[aws]'\n"
    )
