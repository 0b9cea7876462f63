"""What follows from a configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.backplane import check_reach
from kubeq.actions.finding import find_one, find_stored
from kubeq.actions.launching import pool_of_job, pool_of_request
from kubeq.actions.node_requests import node_request
from kubeq.actions.session import Session
from kubeq.config import load_config
from kubeq.core.model import Reach
from kubeq.errors import NotFound, UsageError
from kubeq.nodes.base import NodeCapabilities
from kubeq.store.memory import MemoryStore
from kubeq.store.retry import Retrying
from tests.jobs import FakeClock, Work, session_in


def test_the_store_of_a_command_is_retried_whatever_its_backend(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path, clock, Session)
    assert isinstance(session.store, Retrying)
    assert session.store.url == session.config.store_url
    assert session.store is session.store


def test_inputs_have_a_store_of_their_own_where_one_is_named(tmp_path: Path, clock: FakeClock) -> None:
    plain = session_in(tmp_path, clock, Session)
    assert plain.inputs_store.url == plain.store.url
    session = Session(replace(plain.config, cas_url_prefix=f"file://{tmp_path}/cas"), clock)
    digest = session.blobs.put_bytes(b"x")
    assert list(session.store.list("")) == []
    assert [path.name for path in (tmp_path / "cas").rglob("*") if path.is_file()] == [str(digest)]
    request = node_request(session, pool_of_request(session, private=False))
    assert (request.store_url, request.blobs_url) == (session.store.url, f"file://{tmp_path}/cas")


@pytest.mark.parametrize(
    ("overrides", "message", "rule"),
    [
        (
            ("default_url_prefix=gs://ab/x", "project=my-lab"),
            "default_url_prefix (-o default_url_prefix): the store's gs:// URL names no bucket: 'ab' cannot be one",
            "at least 3 lower-case letters",
        ),
        (
            ("default_url_prefix=s3://bucket", "cas_url_prefix=s3://My_Files/x", "region=eu-west-1"),
            "cas_url_prefix (-o cas_url_prefix): the store's s3:// URL names no bucket: 'My_Files' cannot be one",
            "3 to 63 lower-case letters",
        ),
        (
            ("default_url_prefix=gs://bucket/x", "project=lab"),
            "project (-o project): the queue URL 'datastore://lab' names no project",
            "a project's id has 6 to 30 lower-case letters",
        ),
        (
            ("default_url_prefix=s3://bucket", "region=eu"),
            "region (-o region): the queue URL 'dynamodb://eu/kubeq' names no region and table",
            "a region is called like eu-west-1",
        ),
        (
            ("default_url_prefix=s3://bucket", "queue_url=dynamodb://eu-west-1/q"),
            "queue_url (-o queue_url): the queue URL 'dynamodb://eu-west-1/q' names no region and table",
            "a table's name has 3 to 255",
        ),
    ],
)
def test_a_name_that_cannot_be_is_said_with_its_rule_and_with_where_it_came_from(
    tmp_path: Path, overrides: tuple[str, ...], message: str, rule: str
) -> None:
    config = load_config(
        file=None, profile=None, overrides=overrides, environ={}, cwd=tmp_path, home=tmp_path / "nobody"
    )
    with pytest.raises(UsageError) as refused:
        Session(config).check()
    assert refused.value.message.startswith(message)
    assert refused.value.hint is not None and rule in refused.value.hint


@pytest.mark.parametrize(
    ("queue", "store", "blobs", "refused"),
    [
        ("sqlite:/q.db", "file:///s", "file:///s", ""),
        ("sqlite:/q.db", "s3://b/s", "s3://b/s", ""),
        ("sqlite:/q.db", "file:///s", "s3://b/s", ""),
        ("dynamodb://eu-west-1/kubeq", "s3://b/s", "gs://b/s", ""),
        ("datastore://lab", "file:///s", "s3://b/s", "default_url_prefix = file:///s"),
        ("datastore://lab", "gs://b/s", "file:///s", "cas_url_prefix = file:///s"),
        ("datastore://lab", "file:///s", "file:///s", "default_url_prefix = file:///s and cas_url_prefix = file:///s"),
    ],
)
def test_what_agents_elsewhere_could_not_see_is_refused(
    tmp_path: Path, clock: FakeClock, queue: str, store: str, blobs: str, refused: str
) -> None:
    config = replace(
        session_in(tmp_path, clock).config, queue_url=queue, default_url_prefix=store, cas_url_prefix=blobs
    )
    here = NodeCapabilities(reach=Reach.HOST, costs_money=False)
    elsewhere = NodeCapabilities(reach=Reach.NETWORK, costs_money=True)
    if refused:
        with pytest.raises(UsageError, match="gives tasks to any machine, and their files are on this one") as caught:
            check_reach(config, here)
        assert caught.value.message.endswith(refused)
    else:
        check_reach(config, here)
    if any(url.startswith(("sqlite:", "file:")) for url in (queue, store, blobs)):
        with pytest.raises(UsageError, match="are other machines, and cannot see what is on this one"):
            check_reach(config, elsewhere)
    else:
        check_reach(config, elsewhere)


def test_nodes_with_a_relay_see_what_this_machine_sees(tmp_path: Path, clock: FakeClock) -> None:
    relayed = NodeCapabilities(reach=Reach.NETWORK, costs_money=False, relays=True)
    check_reach(session_in(tmp_path, clock).config, relayed)


def test_a_pool_belongs_to_one_person_and_to_what_its_nodes_are_told(tmp_path: Path, clock: FakeClock) -> None:
    plain = session_in(tmp_path, clock, Session)

    def pool(user: str = plain.user, **changes: str) -> str:
        session = Session(replace(plain.config, **changes), clock)
        session.user = user  # type: ignore[misc]
        return pool_of_request(session, private=False).id

    assert pool() == pool() == pool(default_url_prefix=f"{plain.config.store_url}/")
    others = [pool("bob"), pool(queue_url="sqlite:/other.db"), pool(cas_url_prefix="file:///cas")]
    assert len({pool(), *others, pool(default_url_prefix="file:///other")}) == 5


class FarStore(MemoryStore):
    """A store that other machines see."""

    reach = Reach.NETWORK


def test_a_job_of_another_store_is_not_read_and_gets_no_nodes_from_here(work: Work, session: Session) -> None:
    session.store = FarStore()  # type: ignore[misc]
    assert find_stored(session, work.submit(name="ours").id).job.name == "ours"
    job = work.submit(name="theirs")
    session.queue.forget(job)
    session.queue.begin(replace(job, results_url="s3://other/me/results/x/"))
    assert find_one(session, "theirs").job.id == job.id
    with pytest.raises(NotFound, match="s3://other/me/results/x/, and this configuration's store is memory:") as caught:
        find_stored(session, "theirs")
    assert "default_url_prefix" in str(caught.value.hint)
    with pytest.raises(NotFound, match="s3://other"):
        pool_of_job(session, find_one(session, "theirs").job)
