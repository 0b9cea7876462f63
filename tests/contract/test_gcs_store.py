"""What the store in Cloud Storage asks of the service, and what it makes of the service's bad days."""

from __future__ import annotations

import hashlib
import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError

from kubeq.core.digest import Digest
from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound
from kubeq.gcp import Account
from kubeq.store.base import ObjectStore
from kubeq.store.blobs import Blobs
from kubeq.store.gcs import GcsStore
from kubeq.store.gcs_bucket import Bucket
from kubeq.store.gcs_parts import PartedPuts
from kubeq.store.patience import ATTEMPTS, Patience
from kubeq.store.retry import Retrying
from kubeq.store.sending import PART, Sender
from tests.stand_ins.gcs import FakeGcs
from tests.stand_ins.gcs_proxy import Effect, Fault

LARGE = random.Random(7).randbytes(2 * PART + 1)
"""Three parts."""


class Rig:
    """A store in a bucket of its own; nobody sleeps."""

    def __init__(self, server: FakeGcs) -> None:
        self.server = server
        self.proxy = server.proxy
        self.bucket = Bucket(server.bucket())
        self.pauses: list[float] = []
        self.store = GcsStore(self.bucket, "some/prefix", patience=Patience(sleep=self.pauses.append))
        self.retrying = Retrying(self.store, self.pauses.append)
        self.proxy.reset()

    def named(self, name: str) -> GcsStore:
        return GcsStore(Bucket(name))

    def calls(self, request: Callable[[], object]) -> Counter[str]:
        """What the service was asked by it; the store has counted the same."""
        self.proxy.reset()
        before = Counter(self.store.requests)
        request()
        asked = Counter(method.partition(" ")[0] for method in self.proxy.calls.elements())
        assert Counter(self.store.requests) - before == asked
        return self.proxy.calls

    def names(self) -> list[str]:
        """All that is in the bucket, whatever it is called."""
        return [name for name, _ in self.bucket.listing("", "").objects]


@pytest.fixture
def rig(emulated_gcs: FakeGcs) -> Rig:
    return Rig(emulated_gcs)


def put(store: ObjectStore, key: str, content: bytes = b"x") -> bool:
    return store.put(key, lambda: io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def read(store: ObjectStore, key: str, start: int = 0) -> bytes:
    with store.get(key, start) as stream:
        return stream.read()


def test_every_object_is_made_under_the_condition_that_there_is_none(rig: Rig) -> None:
    put(rig.store, "small")
    put(rig.store, "large", LARGE)
    put(rig.store, "small", b"again")
    made = [asked for asked in rig.proxy.asked if asked.method in ("objects.insert", "objects.compose")]
    assert len(made) == 6
    assert all(asked.query["ifGenerationMatch"] == "0" for asked in made)


def test_calls_cost_the_requests_that_are_promised(rig: Rig) -> None:
    assert rig.calls(lambda: put(rig.store, "a")) == {"objects.insert": 1}
    assert rig.calls(lambda: put(rig.store, "a")) == {"objects.insert": 1}
    assert rig.calls(lambda: read(rig.store, "a")) == {"objects.get media": 1}
    assert rig.calls(lambda: rig.store.stat(["a", "b"])) == {"objects.get": 2}
    assert rig.calls(lambda: list(rig.store.list(""))) == {"objects.list": 1}
    assert rig.calls(lambda: rig.store.delete(["a", "b"])) == {"objects.delete": 2}


def test_a_large_object_is_sent_in_parts_that_are_gone_afterwards(rig: Rig) -> None:
    parts = {"objects.get": 1, "objects.insert": 3, "objects.compose": 1, "objects.delete": 3}
    assert rig.calls(lambda: put(rig.store, "large", LARGE)) == parts
    assert rig.proxy.received["objects.insert"] < len(LARGE) + 3 * 1024
    assert rig.names() == ["some/prefix/large"]
    assert rig.calls(lambda: put(rig.store, "large", LARGE)) == {"objects.get": 1}
    assert read(rig.store, "large") == LARGE


def test_more_parts_than_one_request_joins_are_joined_in_steps(rig: Rig) -> None:
    content = random.Random(8).randbytes(1000)
    puts = PartedPuts(
        rig.bucket, "", Patience(), Sender(Patience()), part=20
    )  # 50 parts: joined to 2, and these to one
    assert puts.put("whole", lambda: io.BytesIO(content), Digest.of(content))
    assert rig.proxy.calls == {"objects.get": 1, "objects.insert": 50, "objects.compose": 3, "objects.delete": 52}
    assert rig.names() == ["whole"]
    assert read(rig.named(rig.bucket.name), "whole") == content


def test_what_is_in_the_bucket_besides_is_not_seen(rig: Rig) -> None:
    for name in ("other", "some/prefix/", "some/prefix/a//b", "some/prefix/tmp/left/0", "some/prefixed"):
        rig.bucket.create(name, b"")
    put(rig.store, "a/b")
    assert [stored.key for stored in rig.store.list("")] == ["a/b"]


def test_throttling_in_the_middle_of_an_upload_costs_only_the_part(rig: Rig) -> None:
    throttled = Fault(method="objects.insert", status=429, reason="rateLimitExceeded", named="/tmp/", times=2)
    rig.proxy.faults.append(throttled)
    assert put(rig.store, "large", LARGE)
    assert rig.proxy.calls["objects.insert"] == 3 + 2
    assert len(rig.pauses) == 2
    assert read(rig.store, "large") == LARGE


def test_throttling_that_does_not_end_is_told_once_and_leaves_nothing(rig: Rig) -> None:
    rig.proxy.faults.append(Fault(method="objects.insert", status=429, message="Slow down.", times=10**6))
    with pytest.raises(BackendError, match=r"Google Cloud asked to slow down \(Slow down\.\)") as caught:
        put(rig.retrying, "large", LARGE)
    assert caught.value.transient
    assert rig.proxy.calls["objects.insert"] <= 3 * ATTEMPTS  # the parts, each with its tries; not these times eight
    rig.proxy.reset()
    assert rig.names() == []


@pytest.mark.parametrize("effect", [Effect.CUT, Effect.LOST])
@pytest.mark.parametrize("content", [b"small", b"x" * 5_000_000], ids=["small", "medium"])
def test_a_connection_cut_in_an_upload_is_a_try_that_failed(rig: Rig, effect: Effect, content: bytes) -> None:
    rig.proxy.faults.append(Fault(method="objects.insert", effect=effect))
    created = put(rig.retrying, "a", content)
    assert created is (effect is Effect.CUT)  # False: it stands, made by the try whose answer was lost
    assert rig.proxy.calls["objects.insert"] == 2
    assert read(rig.store, "a") == content


@pytest.mark.parametrize("effect", [Effect.CUT, Effect.LOST])
def test_a_part_whose_answer_was_lost_is_a_part(rig: Rig, effect: Effect) -> None:
    rig.proxy.faults.append(Fault(method="objects.insert", effect=effect, named="/tmp/"))
    assert put(rig.store, "large", LARGE)
    assert read(rig.store, "large") == LARGE
    assert rig.names() == ["some/prefix/large"]


def test_a_lost_answer_to_the_joining_is_no_second_object(rig: Rig) -> None:
    rig.proxy.faults.append(Fault(method="objects.compose", effect=Effect.LOST))
    assert not put(rig.store, "large", LARGE)
    assert read(rig.store, "large") == LARGE
    assert rig.names() == ["some/prefix/large"]


@pytest.mark.parametrize("method", ["objects.insert", "objects.compose"])
def test_what_is_refused_on_the_way_leaves_no_parts(rig: Rig, method: str) -> None:
    rig.proxy.faults.append(Fault(method=method, status=400, reason="invalid", message="Invalid argument."))
    with pytest.raises(BackendError, match=r"Google Cloud answered 400: Invalid argument\."):
        put(rig.store, "large", LARGE)
    assert rig.names() == []


def test_parts_that_cannot_be_removed_do_not_spoil_the_object(rig: Rig) -> None:
    rig.proxy.faults.append(Fault(method="objects.delete", times=10**6))
    assert put(rig.store, "large", LARGE)
    assert read(rig.store, "large") == LARGE
    assert [stored.key for stored in rig.store.list("")] == ["large"]


def test_a_large_source_that_is_something_else_leaves_nothing(rig: Rig) -> None:
    for content in (LARGE[:-1], LARGE + b"x", LARGE[:-1] + b"?"):
        with pytest.raises(IntegrityError, match="large"):
            rig.store.put("large", lambda content=content: io.BytesIO(content), len(LARGE), Digest.of(LARGE).sha256)  # type: ignore[misc]
        assert rig.names() == []


def test_a_slow_line_is_no_reason_to_give_up(emulated_gcs: FakeGcs) -> None:
    bucket = Bucket(emulated_gcs.bucket(), timeout_s=(0.5, 20.0))
    emulated_gcs.proxy.faults.append(Fault(method="objects.insert", effect=Effect.SLOW, pause_s=0.15))
    assert bucket.create("a", bytes(PART))  # takes 1.2 s


def test_a_download_that_breaks_is_worth_another_try(rig: Rig) -> None:
    put(rig.store, "a", LARGE)
    rig.proxy.reset()
    rig.proxy.faults += [Fault(method="objects.get media", effect=Effect.CUT) for _ in range(3)]
    with rig.store.get("a") as stream, pytest.raises(BackendError, match="could not read some/prefix/a") as caught:
        stream.read()
    assert caught.value.transient
    assert read(rig.retrying, "a") == LARGE
    assert rig.proxy.calls["objects.get media"] == 1 + 3


def test_a_listing_that_breaks_goes_on(rig: Rig) -> None:
    put(rig.store, "a")
    rig.proxy.faults += [Fault(method="objects.list", status=503), Fault(method="objects.list", effect=Effect.LOST)]
    assert [stored.key for stored in rig.retrying.list("")] == ["a"]


def test_thousands_of_sizes_survive_a_bad_day(rig: Rig) -> None:
    for number in range(5):
        put(rig.store, f"k/{number}")
    rig.proxy.faults.append(Fault(method=r"objects\.(get|list)", status=503, times=7))
    asked = [f"k/{number}" for number in range(100)]
    assert rig.store.stat(asked) == {f"k/{number}": 1 for number in range(5)}
    rig.store.delete(asked)
    assert rig.names() == []


class Passing(Credentials):
    """Credentials that have run out and cannot be renewed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = "old"

    @property
    def expired(self) -> bool:
        return False

    @property
    def valid(self) -> bool:
        return True

    def refresh(self, request: object) -> None:
        raise RefreshError("invalid_grant: Token has been expired or revoked.", {})


def test_credentials_that_expire_in_the_middle_of_a_job_say_so(rig: Rig) -> None:
    store = GcsStore(Bucket(rig.bucket.name, account=Account(credentials=Passing(), project=None)))
    assert put(store, "before")
    rig.proxy.faults.append(Fault(method="objects.insert", status=401, message="Invalid Credentials", times=10))
    with pytest.raises(AccessDenied, match=r"credentials have expired or were withdrawn \(invalid_grant") as caught:
        put(Retrying(store, rig.pauses.append), "after")
    assert caught.value.hint == "gcloud auth application-default login"
    assert rig.proxy.calls["objects.insert"] == 2


def test_a_permission_that_is_missing_is_named(rig: Rig) -> None:
    said = (
        "robot@p.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud Storage "
        "object. Permission 'storage.objects.create' denied on resource (or it may not exist)."
    )
    rig.proxy.faults.append(Fault(method="objects.insert", status=403, reason="forbidden", message=said))
    with pytest.raises(AccessDenied) as caught:
        put(rig.store, "a")
    assert caught.value.message == (
        f"could not store some/prefix/a in gs://{rig.bucket.name}: the permission storage.objects.create is not granted"
    )


def test_a_bucket_that_is_deleted_in_the_middle_of_a_job_is_not_taken_for_absent_objects(rig: Rig) -> None:
    put(rig.store, "a")
    rig.store.delete(["a"])
    rig.bucket.client.bucket(rig.bucket.name).delete()
    calls: list[Callable[[], object]] = [
        lambda: put(rig.store, "a"),
        lambda: put(rig.store, "a", LARGE),
        lambda: read(rig.store, "a"),
        lambda: rig.store.stat(["a"]),
        lambda: rig.store.stat([str(number) for number in range(1000)]),
        lambda: list(rig.store.list("")),
    ]
    for call in calls:
        with pytest.raises(BackendError, match=f"the bucket gs://{rig.bucket.name} does not exist") as caught:
            call()
        assert (caught.value.hint, caught.value.transient) == ("kubeq setup", False)


def test_an_object_that_is_absent_is_no_absent_bucket(rig: Rig) -> None:
    with pytest.raises(ObjectNotFound, match="holds no absent"):
        read(rig.retrying, "absent")
    assert rig.pauses == []


def test_a_blob_that_was_damaged_in_the_store_is_noticed(rig: Rig, tmp_path: Path) -> None:
    blobs = Blobs(rig.retrying)
    digest = blobs.put_bytes(b"precious")
    (stored,) = rig.names()
    rig.bucket.client.bucket(rig.bucket.name).blob(stored).upload_from_string(b"previous")
    with pytest.raises(IntegrityError, match="are not what its digest says"):
        blobs.download(digest, tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_a_stat_of_thousands_in_a_small_bucket_is_a_few_pages(rig: Rig) -> None:
    put(rig.store, "blobs/00/a")
    asked = [f"blobs/{number % 256:02x}/{number}" for number in range(3000)]
    calls = rig.calls(lambda: rig.store.stat(asked))
    assert set(calls) == {"objects.list"}
    assert calls["objects.list"] <= 20
