"""What a URL names is looked at, pinned and fetched; the same over every kind of source outside of kubeq."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from kubeq.core.manifest import Remote
from kubeq.errors import BackendError, IntegrityError, ObjectNotFound, UsageError
from kubeq.store import gcs_bucket, s3_bucket
from kubeq.store.bucket_source import BucketSite
from kubeq.store.http_source import HttpSite
from kubeq.store.patience import Patience
from kubeq.store.sources import Pinned, RetryingSite, Site
from tests.stand_ins.gcs import FakeGcs
from tests.stand_ins.gcs_proxy import Effect, Fault
from tests.stand_ins.ministack import REGION, Cloud
from tests.stand_ins.web import Web


class Place(Protocol):
    """Somewhere that files can be put and removed again."""

    site: Site
    url: str

    def put(self, name: str, content: bytes) -> None: ...
    def remove(self, name: str) -> None: ...


class WebPlace:
    def __init__(self, web: Web) -> None:
        self.site: Site = HttpSite()
        self.url = f"{web.url}/dir"
        self._web = web

    def put(self, name: str, content: bytes) -> None:
        self._web.put(f"/dir/{name}", content)

    def remove(self, name: str) -> None:
        del self._web.pages[f"/dir/{name}"]


class GcsPlace:
    def __init__(self, server: FakeGcs) -> None:
        self.site: Site = BucketSite("gs", gcs_bucket.Bucket)
        bucket = gcs_bucket.Bucket(server.bucket())
        self.url = f"gs://{bucket.name}/dir"
        self._bucket = bucket.client.bucket(bucket.name)

    def put(self, name: str, content: bytes) -> None:
        self._bucket.blob(f"dir/{name}").upload_from_string(content)

    def remove(self, name: str) -> None:
        self._bucket.blob(f"dir/{name}").delete()


class S3Place:
    def __init__(self, cloud: Cloud) -> None:
        self.site: Site = BucketSite("s3", s3_bucket.Bucket)
        self._name = cloud.name()
        self.url = f"s3://{self._name}/dir"
        self._client = s3_bucket.Bucket(self._name, REGION).client
        self._client.create_bucket(Bucket=self._name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def put(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=f"dir/{name}", Body=content)

    def remove(self, name: str) -> None:
        self._client.delete_object(Bucket=self._name, Key=f"dir/{name}")


PLACES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {
    "gs": lambda request: GcsPlace(request.getfixturevalue("emulated_gcs")),
    "http": lambda request: WebPlace(request.getfixturevalue("web")),
    "s3": lambda request: S3Place(request.getfixturevalue("emulated_aws")),
}
BUCKETS = ["gs", "s3"]


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest) -> Place:
    return PLACES[request.param](request)


@pytest.fixture(params=BUCKETS)
def bucket(request: pytest.FixtureRequest) -> Place:
    return PLACES[request.param](request)


def remote(file: Pinned) -> Remote:
    return Remote("in/here", file.url, file.pin, file.size)


def read(site: Site, file: Pinned, start: int = 0) -> bytes:
    with site.open(remote(file), start) as stream:
        return stream.read()


def test_a_file_is_pinned_and_read(place: Place) -> None:
    content = bytes(range(256)) * 5000
    place.put("a.bin", content)
    (found,) = place.site.look(f"{place.url}/a.bin")
    assert (found.url, found.size, found.name) == (f"{place.url}/a.bin", len(content), "")
    assert read(place.site, found) == content
    assert read(place.site, found, 1000) == content[1000:]
    assert read(place.site, found, len(content)) == b""


def test_an_empty_file_is_a_file(place: Place) -> None:
    place.put("empty", b"")
    (found,) = place.site.look(f"{place.url}/empty")
    assert (found.size, read(place.site, found)) == (0, b"")


def test_looking_twice_at_the_same_gives_the_same(place: Place) -> None:
    place.put("a", b"one")
    assert place.site.look(f"{place.url}/a") == place.site.look(f"{place.url}/a")


def test_there_may_be_nothing(place: Place) -> None:
    place.put("ab", b"one")
    for name in ("absent", "a"):
        with pytest.raises(ObjectNotFound, match=f"there is nothing at {place.url}/{name}"):
            place.site.look(f"{place.url}/{name}")


def test_what_has_changed_is_refused_and_both_pins_are_named(place: Place) -> None:
    place.put("a", b"one")
    (before,) = place.site.look(f"{place.url}/a")
    place.put("a", b"two")
    (after,) = place.site.look(f"{place.url}/a")
    assert before.pin != after.pin
    with pytest.raises(IntegrityError) as caught:
        read(place.site, before)
    assert caught.value.message == (
        f"the input in/here has changed since the job was submitted: {place.url}/a was {before.pin} and is "
        f"{after.pin} now"
    )
    assert read(place.site, after) == b"two"


def test_what_is_gone_is_said_to_be_gone(place: Place) -> None:
    place.put("a", b"one")
    (before,) = place.site.look(f"{place.url}/a")
    place.remove("a")
    with pytest.raises(
        ObjectNotFound, match=rf"the input in/here is gone: there is no {place.url}/a any more"
    ) as caught:
        read(place.site, before)
    assert before.pin in caught.value.message


def test_a_prefix_is_a_directory_of_all_below_it(bucket: Place) -> None:
    for name in ("t/a", "t/b/c", "t/b/d e", "tx", "t/empty/"):
        bucket.put(name, name.encode())
    for url in (f"{bucket.url}/t", f"{bucket.url}/t/"):
        found = bucket.site.look(url)
        assert [(file.name, file.url) for file in found] == [
            ("a", f"{bucket.url}/t/a"),
            ("b/c", f"{bucket.url}/t/b/c"),
            ("b/d e", f"{bucket.url}/t/b/d e"),
        ]
        assert [read(bucket.site, file) for file in found] == [b"t/a", b"t/b/c", b"t/b/d e"]


def test_a_whole_bucket_is_a_directory_too(bucket: Place) -> None:
    bucket.put("a", b"1")
    root = bucket.url.removesuffix("/dir")
    for url in (root, f"{root}/"):
        (found,) = bucket.site.look(url)
        assert (found.name, found.url) == ("dir/a", f"{root}/dir/a")


def test_a_name_that_is_an_object_and_a_prefix_is_the_object_unless_it_ends_in_a_slash(bucket: Place) -> None:
    bucket.put("x", b"object")
    bucket.put("x/y", b"below")
    (found,) = bucket.site.look(f"{bucket.url}/x")
    assert (found.name, found.size) == ("", 6)
    (found,) = bucket.site.look(f"{bucket.url}/x/")
    assert (found.name, found.size) == ("y", 5)


def test_odd_names_are_taken_as_they_are(bucket: Place) -> None:
    for name in ("a%20b", "c+d", "é", "e?f#g", "h*"):
        bucket.put(name, name.encode())
        (found,) = bucket.site.look(f"{bucket.url}/{name}")
        assert read(bucket.site, found) == name.encode()


def test_a_prefix_of_more_than_a_page_is_taken_whole(emulated_gcs: FakeGcs) -> None:
    place = GcsPlace(emulated_gcs)
    for number in range(5):
        place.put(f"many/{number}", b"x")
    emulated_gcs.proxy.reset()
    assert len(place.site.look(f"{place.url}/many/")) == 5
    assert emulated_gcs.proxy.calls == {"objects.list": 1}


@pytest.mark.parametrize("scheme", BUCKETS)
def test_a_bucket_that_does_not_exist_is_named(scheme: str, request: pytest.FixtureRequest) -> None:
    place = PLACES[scheme](request)
    with pytest.raises(BackendError, match="kubeq-no-such-bucket"):
        place.site.look(f"{scheme}://kubeq-no-such-bucket/a")
    with pytest.raises(UsageError, match="names no bucket"):
        place.site.look(f"{scheme}:///a")


def test_a_broken_stream_goes_on_where_it_broke(emulated_gcs: FakeGcs) -> None:
    place = GcsPlace(emulated_gcs)
    content = bytes(range(256)) * 40_000
    place.put("a", content)
    pauses: list[float] = []
    site = RetryingSite(place.site, Patience(sleep=pauses.append))
    emulated_gcs.proxy.faults += [
        Fault(method="objects.get", status=503),
        Fault(method="objects.get media", status=429),
        Fault(method="objects.get media", effect=Effect.CUT, times=2),
    ]
    (found,) = site.look(f"{place.url}/a")
    assert read(site, found) == content
    assert len(pauses) == 4
    asked = [asked for asked in emulated_gcs.proxy.asked if asked.method == "objects.get media"]
    assert all(request.query["generation"] == found.pin.removeprefix("generation:") for request in asked)


def test_who_does_not_answer_may_answer_later() -> None:
    with pytest.raises(BackendError, match="Connection refused") as caught:
        HttpSite().look("http://127.0.0.1:1/a")
    assert caught.value.transient
