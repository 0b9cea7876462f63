"""From URLs to tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeq.core.model import Reach
from kubeq.errors import UsageError
from kubeq.queue.base import Key, Partition, Row
from kubeq.queue.datastore import DatastoreTable
from kubeq.queue.memory import MemoryTable
from kubeq.queue.open import BESIDE, TABLES, open_provisioner, open_table, reach_of
from kubeq.queue.sqlite import SqliteTable
from kubeq.store.open import STORES

GIVEN = Row(Key(Partition("p"), "a"), 1, "mark", None, None, "{}")


@pytest.mark.parametrize("form", ["sqlite:{}", "sqlite://{}", "SQLITE:{}"])
def test_an_absolute_path_is_that_file(tmp_path: Path, form: str) -> None:
    table = open_table(form.format(tmp_path / "my queue?#.db"))
    assert isinstance(table, SqliteTable)
    table.insert([GIVEN])
    assert (tmp_path / "my queue?#.db").is_file()


def test_a_relative_path_stays_the_same_file_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = open_table("sqlite:state/q.db")
    monkeypatch.chdir("/")
    table.insert([GIVEN])
    assert (tmp_path / "state" / "q.db").is_file()


def test_opening_makes_nothing(tmp_path: Path) -> None:
    open_table(f"sqlite:{tmp_path}/state/q.db")
    assert list(tmp_path.iterdir()) == []


def test_memory_is_a_new_table_each_time() -> None:
    first, second = open_table("memory:"), open_table("memory:")
    assert isinstance(first, MemoryTable)
    first.insert([GIVEN])
    assert list(second.get([GIVEN.key])) == [None]


@pytest.mark.parametrize("url", ["queue.db", "/var/queue.db", "mysql:x", "", "redis://host/1", "://x"])
def test_an_unknown_kind_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_table(url)
    assert "datastore:, dynamodb:, memory:, sqlite:" in (refused.value.hint or "")


@pytest.mark.parametrize("url", ["sqlite:", "sqlite:folder/", "sqlite://host/path", "sqlite:a\0b", "memory:x"])
def test_a_known_kind_with_a_path_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_table(url)
    assert refused.value.hint


@pytest.mark.parametrize("scheme", ["sqlite", "memory", "postgres"])
def test_a_password_in_the_url_is_refused_and_not_repeated(scheme: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_table(f"{scheme}://bob:hunter2@host/x")
    assert "hunter2" not in f"{refused.value.message} {refused.value.hint}"


def test_a_kind_reaches_as_far_as_its_table_says(tmp_path: Path) -> None:
    urls = {f"sqlite:{tmp_path}/q.db", "memory:", "dynamodb://eu-west-1/kubeq", "datastore://some-lab"}
    assert {url.partition(":")[0] for url in urls} == set(TABLES)
    for url in urls:
        assert reach_of(url) is open_table(url).reach


def test_every_store_in_a_cloud_has_a_queue_beside_it() -> None:
    assert {scheme for scheme, kind in STORES.items() if kind.reach is Reach.NETWORK} == set(BESIDE)
    for url in BESIDE.values():
        assert reach_of(url.format(region="eu-west-1", project="some-lab")) is Reach.NETWORK


@pytest.mark.parametrize(
    "rest", ["", "//eu-west-1", "//eu-west-1/", "/eu-west-1/kubeq", "//eu-west-1/a b", "//eu-west-1/ab", "//EU/kubeq"]
)
def test_a_dynamodb_url_without_region_and_table_says_how_to_write_it(rest: str) -> None:
    for use in (open_table, open_provisioner):
        with pytest.raises(UsageError, match=f"the queue URL 'dynamodb:{rest}' names no region and table") as refused:
            use(f"dynamodb:{rest}")
        assert "dynamodb://REGION/TABLE" in (refused.value.hint or "")


def test_a_dynamodb_url_opens_without_a_request_and_has_to_be_made_first() -> None:
    url = "dynamodb://us-gov-west-1/kubeq.Test_1-2"
    table, setup = open_table(url), open_provisioner(url)
    assert table.reach is reach_of(url) is Reach.NETWORK
    assert dict(table.requests) == {}
    assert setup is not None and setup.cloud == "aws"


def test_what_is_embedded_needs_nothing_to_be_made(tmp_path: Path) -> None:
    assert open_provisioner(f"sqlite:{tmp_path}/q.db", "eu-west-1") is None
    with pytest.raises(UsageError):
        open_provisioner("mysql:x")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("datastore://my-project", ("my-project", "", "")),
        ("datastore://my-project/", ("my-project", "", "")),
        ("datastore://my-project/team.a_b-1", ("my-project", "team.a_b-1", "")),
        ("datastore://example.com:my-project/x", ("example.com:my-project", "x", "")),
        ("datastore://my-project?database=kubeq", ("my-project", "", "kubeq")),
        ("datastore://my-project/x?database=(default)", ("my-project", "x", "")),
    ],
)
def test_a_datastore_url_names_project_namespace_and_database(url: str, place: tuple[str, str, str]) -> None:
    table = open_table(url)
    assert isinstance(table, DatastoreTable)
    assert tuple(table.place) == place
    assert table.reach is reach_of(url) is Reach.NETWORK
    provisioner = open_provisioner(url, "europe-west4")
    assert provisioner is not None
    assert provisioner.cloud == "gcp"
    (permission,) = provisioner.node_permissions()
    assert permission.resources == (
        f"//firestore.googleapis.com/projects/{place[0]}/databases/{place[2] or '(default)'}",
    )


@pytest.mark.parametrize(
    "rest", ["", "//", "//x", "//My-Project", "//my-project/a/b", "//my-project/é", "//my-project?x=1", "my-project"]
)
def test_a_datastore_url_that_makes_no_sense_is_refused(rest: str) -> None:
    with pytest.raises(UsageError, match="names no project") as refused:
        open_table(f"datastore:{rest}")
    assert "datastore://PROJECT/NAMESPACE" in (refused.value.hint or "")
