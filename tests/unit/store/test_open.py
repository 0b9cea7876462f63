"""From URLs to stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeq.core.model import Reach
from kubeq.errors import UsageError
from kubeq.store.local import LocalStore
from kubeq.store.memory import MemoryStore
from kubeq.store.open import STORES, open_provisioner, open_store, reach_of


def test_a_file_url_opens_a_directory_and_touches_nothing(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/new")
    assert isinstance(store, LocalStore)
    assert store.url == f"file://{tmp_path}/new"
    assert list(tmp_path.iterdir()) == []


def test_odd_paths_survive_their_url(tmp_path: Path) -> None:
    for name in ("a b", "100%", "a#b?c", "é", "user@host", "a:b", "\udcff"):
        url = LocalStore(tmp_path / name).url
        assert open_store(url).url == url


def test_the_memory_url_is_one_store_in_a_process() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    assert open_store("memory:") is open_store("memory:")


@pytest.mark.parametrize("url", ["ftp://host/x", "s4:/b", "fiel:///tmp", "/tmp/store", "store", "", "://", "C:\\store"])
def test_an_unknown_scheme_lists_the_known_ones(url: str) -> None:
    with pytest.raises(UsageError, match=r"known are file, .*memory, .*s3") as caught:
        open_store(url)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "file://hunter2:hunter3@host/x",
        "s3://hunter2:hunter3@bucket/x",
        "s3://hunter2@bucket",
        "s3://hunter2:hunter3",
        "hunter2:hunter3@bucket",
        "file://hunter2@/x",
        "file:///x?token=hunter2",
        "memory:?hunter2",
        "file:///x#hunter2",
        " file:///hunter2",
        "file://[hunter2",
    ],
)
def test_credentials_are_refused_and_never_echoed(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "hunter" not in f"{caught.value}{caught.value.hint}".lower()
    assert caught.value.hint


@pytest.mark.parametrize("url", ["file://me:secret@host/x", "file://me@/x", "memory://me@/", "s3://me:secret@b"])
def test_a_password_in_a_url_is_named_as_what_is_wrong(url: str) -> None:
    with pytest.raises(UsageError, match="user name or a password"):
        open_store(url)


def test_an_at_sign_in_a_path_is_no_password(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/me@home").url.endswith("/me%40home")


def test_an_s3_url_names_a_bucket_and_perhaps_a_prefix_and_asks_nobody() -> None:
    for url in ("s3://team-bucket", "s3://b.1/p", "s3://bucket/a%20b/%C3%A9/%23", "s3://bucket/tmp"):
        store = open_store(url)
        assert (store.url, store.reach, store.requests) == (url, Reach.NETWORK, {})
    assert open_store("s3://bucket/").url == "s3://bucket"
    assert open_store("s3://bucket/p/").url == "s3://bucket/p"


NO_PLACES = ["file:", "file://", "file://relative/x", "file:relative", "file:///a/../b", "file:///a/%2e%2e/b"]
NO_PLACES += ["file:///a%00b", "memory://x", "memory:x", "file:///a ", "file:///a\n", "file:///a\tb"]
NO_PLACES += ["s3:", "s3://", "s3:/b", "s3:///p", "s3://Bucket", "s3://b/x", "s3://my_bucket", "s3://bucket:9000/x"]
NO_PLACES += [
    "s3://bucket/a//b",
    "s3://bucket/../x",
    "s3://bucket/%0a",
    "s3://bucket/%ff",
    "s3://-bucket",
    "s3://bücket",
]


@pytest.mark.parametrize("url", NO_PLACES)
def test_a_url_that_names_no_place_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert caught.value.hint


def test_a_kind_reaches_as_far_as_its_store_says(tmp_path: Path) -> None:
    urls = {f"file://{tmp_path}", "memory:", "s3://bucket/x", "gs://bucket/x"}
    assert {url.partition(":")[0] for url in urls} == set(STORES)
    for url in urls:
        assert reach_of(url) is open_store(url).reach


def test_what_is_embedded_needs_nothing_to_be_made(tmp_path: Path) -> None:
    assert open_provisioner(f"file://{tmp_path}", "eu-west-1") is None
    with pytest.raises(UsageError):
        open_provisioner("ftp://host/x")
