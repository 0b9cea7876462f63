"""What a `gs://` URL may say. What the store does is in the contract suites."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from kubeq.core.model import Reach
from kubeq.errors import UsageError
from kubeq.store.gcs import GcsStore
from kubeq.store.gcs_bucket import method_called
from kubeq.store.open import open_store, reach_of

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("gs://bucket", "gs://bucket"),
        ("gs://bucket/", "gs://bucket"),
        ("gs://my_bucket.example.org/a%20b/c/", "gs://my_bucket.example.org/a%20b/c"),
        ("gs://bucket/é", "gs://bucket/%C3%A9"),
    ],
)
def test_a_url_opens_a_store_that_tells_the_same_url_and_connects_nowhere(url: str, same: str) -> None:
    store = open_store(url)
    assert isinstance(store, GcsStore)
    assert (store.url, store.reach, dict(store.requests)) == (same, Reach.NETWORK, {})
    assert open_store(store.url).url == same
    assert reach_of(url) is Reach.NETWORK


@pytest.mark.parametrize(
    "url", ["gs://", "gs:bucket", "gs:///prefix", "gs://Bucket", "gs://b", "gs://-bucket", "gs://a b"]
)
def test_a_url_without_a_bucket_says_how_one_is_written(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "gs://BUCKET" in str(caught.value.hint)


@pytest.mark.parametrize("url", ["gs://bucket/a//b", "gs://bucket/../b", "gs://bucket/a%00", "gs://bucket/%ff"])
def test_a_prefix_that_can_begin_no_key_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="cannot begin a key"):
        open_store(url)


def test_a_name_that_is_too_long_with_the_prefix_is_refused_before_any_request() -> None:
    store = open_store(f"gs://bucket/{'p' * 500}")
    with pytest.raises(UsageError, match="would be longer than the 1024 bytes") as caught:
        store.put("k" * 600, lambda: io.BytesIO(b""), 0, "0" * 64)
    assert "shorter prefix" in str(caught.value.hint)
    assert dict(store.requests) == {}


@pytest.mark.parametrize(
    ("verb", "url", "method"),
    [
        ("POST", "/upload/storage/v1/b/x/o?uploadType=multipart&name=a/compose", "objects.insert"),
        ("POST", "/storage/v1/b/x/o/a%2Fb/compose?ifGenerationMatch=0", "objects.compose"),
        ("GET", "/storage/v1/b/x/o/compose", "objects.get"),
        ("GET", "/download/storage/v1/b/x/o/a?alt=media", "objects.get"),
        ("GET", "/storage/v1/b/x/o?prefix=/o/", "objects.list"),
        ("DELETE", "/storage/v1/b/x/o/a", "objects.delete"),
        ("GET", "/storage/v1/b/x?projection=noAcl", "buckets.get"),
        ("POST", "/storage/v1/b?project=p", "buckets.insert"),
        ("PATCH", "/storage/v1/b/x", "buckets.patch"),
    ],
)
def test_requests_are_named_by_the_method_that_they_call(verb: str, url: str, method: str) -> None:
    assert method_called(verb, f"https://storage.googleapis.com{url}") == method


def test_without_the_sdk_the_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['google.cloud.storage'] = None\n"
        "from kubeq.errors import BackendError\n"
        "from kubeq.store.open import open_store\n"
        "try:\n    open_store('gs://bucket')\nexcept BackendError as error:\n    print(error.message, '|', error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "the Python package google.cloud.storage is needed and is not installed | pip install 'kubeq[gcp]'\n"
    )
