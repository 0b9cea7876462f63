"""What is typed to make a machine a node by hand, on a backplane of this machine; and the archive in the store."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess

import pytest

from kubeq.actions.agent_store import store_archive
from kubeq.actions.agents import agent_by_hand
from kubeq.actions.launching import pool_of_request
from kubeq.actions.session import Session
from kubeq.actions.unused_blobs import GRACE_S, find_unused, remove_unused
from kubeq.cli.views_agent import AgentView
from kubeq.core.model import Pool
from kubeq.release import this_release
from tests.jobs import FakeClock

DYNAMODB = ("dynamodb://eu-west-1/kubeq", "s3://bucket/prefix")
DATASTORE = ("datastore://project", "gs://bucket/prefix")


@pytest.fixture
def pool(session: Session) -> Pool:
    return pool_of_request(session, private=False)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


def on(session: Session, urls: tuple[str, str], **environ: str) -> Session:
    """The session configured for a queue and a store that any machine can see, and with that environment."""
    place = dataclasses.replace(session.config.place, environ=environ)
    session.config = dataclasses.replace(
        session.config, queue_url=urls[0], default_url_prefix=urls[1], cas_url_prefix=urls[1], place=place
    )
    return session


def test_on_a_backplane_of_this_machine_there_is_one_line_and_every_call_is_another_node(
    session: Session, pool: Pool
) -> None:
    first, second = agent_by_hand(session, pool), agent_by_hand(session, pool)
    assert (first.node, second.node) == (f"{pool.id}-1", f"{pool.id}-2")
    assert (first.archive, first.image) == (None, None)
    words = shlex.split(first.command)
    assert f"KUBEQ_AGENT_RELEASE={this_release()}" in words
    assert list(AgentView(first, pool.id).text()) == [first.command]
    assert list(session.blobs.stored()) == []


def test_the_boot_text_of_this_machine_is_that_line_supervised(session: Session, pool: Pool) -> None:
    found = agent_by_hand(session, pool)
    view = AgentView(found, pool.id, print_boot=True)
    (text,) = view.text()
    assert text.startswith(f"#!/bin/sh\n# Makes this machine node {pool.id}-1 of pool {pool.id};")
    assert text.endswith(f"{found.command} --supervise")
    assert subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True).stderr == ""
    assert view.json()["boot"] == found.boot
    assert "boot" not in AgentView(found, pool.id).json()


def test_the_archive_is_stored_once_and_the_pool_keeps_its_name(session: Session, pool: Pool) -> None:
    archive, already = store_archive(session, pool, ())
    assert not already
    assert session.blobs.read(archive.digest) == archive.path.read_bytes()
    again, already = store_archive(session, pool, ())
    assert (again, already) == (archive, True)
    standing = session.queue.pool(pool.id)
    assert standing is not None
    assert standing.archives == (archive.digest,)


def test_no_cleaning_takes_the_archive_from_a_machine_that_is_about_to_fetch_it(
    session: Session, pool: Pool, clock: FakeClock
) -> None:
    archive, _ = store_archive(session, pool, ())
    orphan = session.blobs.put_bytes(b"nobody's")
    find_unused(session)
    clock.advance(GRACE_S + 1)
    found = find_unused(session)
    assert (found.ripe, found.young) == ((orphan,), ())
    assert remove_unused(session, found) == orphan.size
    assert set(session.blobs.stored()) == {archive.digest}


def test_an_archive_that_was_stored_again_since_it_was_found_unused_stays(
    session: Session, pool: Pool, clock: FakeClock
) -> None:
    archive, _ = store_archive(session, pool, ())
    session.queue.forget_pool(pool.id)
    find_unused(session)
    clock.advance(GRACE_S + 1)
    found = find_unused(session)
    assert found.ripe == (archive.digest,)
    store_archive(session, pool, ())
    assert remove_unused(session, found) == 0
    assert set(session.blobs.stored()) == {archive.digest}


def test_on_dynamodb_there_are_three_ways_all_of_one_node_and_the_archive_is_stored(
    session: Session, pool: Pool, no_engine: None
) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "the-secret", "AWS_SESSION_TOKEN": "the-token"}
    found = agent_by_hand(on(session, DYNAMODB, AWS_REGION="eu-west-1", **secrets), pool)
    assert found.archive is not None
    assert found.image is not None
    assert session.blobs.missing([found.archive.archive.digest]) == set()
    here, archive, image = (shlex.split(line) for line in (found.command, found.archive.command, found.image.command))
    for words in (here, archive, image):
        assert f"KUBEQ_AGENT_NODE={pool.id}-1" in words
        assert f"KUBEQ_AGENT_RELEASE={this_release()}" in words
    for words in (archive, image):
        assert "AWS_REGION=eu-west-1" in words
        assert "KUBEQ_AGENT_PROVIDER=manual" in words
        assert not [word for word in words if str(session.config.state_dir) in word], "a folder of this machine"
    assert f"KUBEQ_AGENT_ARCHIVE={found.archive.archive.digest}" in archive
    everything = [found.command, found.archive.command, found.image.command, found.boot]
    assert not [text for text in everything if "the-secret" in text or "the-token" in text]
    assert found.archive.url in found.boot


def test_the_ways_are_told_apart_by_comments(session: Session, pool: Pool, no_engine: None) -> None:
    found = agent_by_hand(on(session, DYNAMODB), pool)
    assert found.archive is not None
    assert found.image is not None
    lines = list(AgentView(found, pool.id).text())
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == [found.command, found.archive.command, found.image.command]
    comments = "\n".join(line for line in lines if line.startswith("#"))
    assert f"Python 3.11 or newer, beside a copy of {found.archive.archive.path}" in comments
    assert f"now in the store: {found.archive.url}" in comments
    assert f"the image {found.image.name} (not on this machine" in comments
    assert "already in the store" in "\n".join(AgentView(agent_by_hand(session, pool), pool.id).text())
    assert AgentView(found, pool.id).json()["archive"]["digest"] == str(found.archive.archive.digest)


def test_on_datastore_there_is_no_archive_and_a_fresh_machine_runs_the_image(
    session: Session, pool: Pool, no_engine: None
) -> None:
    found = agent_by_hand(on(session, DATASTORE), pool)
    assert found.archive is None
    assert found.image is not None
    assert list(session.blobs.stored()) == []
    assert f" {found.image.name} --supervise\n" in found.boot
    assert AgentView(found, pool.id).json()["archive"] is None
