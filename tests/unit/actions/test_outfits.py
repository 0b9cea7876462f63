"""What nodes do around their attempts makes their pool, is stored before there is a node, and is never cleaned away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeq.actions.agents import agent_by_hand
from kubeq.actions.existing import IfExists
from kubeq.actions.launching import add_nodes, ensure_nodes, observe_pool, pool_of_job, pool_of_request
from kubeq.actions.plan import make_plan
from kubeq.actions.session import Session
from kubeq.actions.submit import Submitted, submit
from kubeq.actions.tending import MOST_RELAUNCHES, Tending
from kubeq.actions.unused_blobs import find_unused
from kubeq.config import with_flags
from kubeq.core.digest import Digest
from kubeq.core.model import GoneReason, NodeState, Pool
from kubeq.core.outfit import Outfit
from kubeq.core.overlay import Overlay
from kubeq.core.wire import decode_outfit, decode_pool, encode_pool
from kubeq.errors import BackendError, UsageError
from kubeq.nodes.boot import agent_environment
from tests.jobs import FakeClock, MemorySession, Work
from tests.providers import FakeProvider


class Users:
    """Sessions of one user, each with options of its own, over one queue and one store."""

    def __init__(self, session: Session, clock: FakeClock) -> None:
        self._first = session
        self._clock = clock
        self.provider = FakeProvider()

    def session(self, **flags: Any) -> Session:
        session = MemorySession(with_flags(self._first.config, flags), self._clock)
        session.queue, session.store = self._first.queue, self._first.store  # type: ignore[misc]
        session.provider = self.provider  # type: ignore[misc]
        return session

    def pool(self, **flags: Any) -> Pool:
        return pool_of_request(self.session(**flags), private=False)


@pytest.fixture
def users(session: Session, clock: FakeClock) -> Users:
    return Users(session, clock)


def submitted(session: Session, if_exists: IfExists | None = None) -> Submitted:
    plan = make_plan(["work"], session.config, session.provider)
    pool = pool_of_request(session, private=False)
    return submit(session, plan, pool, if_exists=if_exists, pinned="python@sha256:" + "ab" * 32)


def test_jobs_share_nodes_only_if_they_ask_for_the_same(users: Users) -> None:
    plain, one, other = users.pool(), users.pool(pre="apt-get update"), users.pool(pre="true")
    assert len({plain.id, one.id, other.id, users.pool(post="apt-get update").id}) == 4
    assert users.pool(pre="apt-get update").id == one.id
    assert plain.outfit is None


def test_a_node_is_told_the_digest_and_no_word_of_the_command(users: Users) -> None:
    session = users.session(pre="curl -H 'Authorization: secret-word' https://example.org")
    pool = pool_of_request(session, private=False)
    (name,) = add_nodes(session, pool, 1)
    request = users.provider.requests[0][1]
    told = agent_environment(request, name, 1, "local")
    assert told["KUBEQ_AGENT_OUTFIT"] == str(pool.outfit)
    assert "secret-word" not in str(told)
    assert pool.outfit is not None
    assert decode_outfit(session.blobs.read(pool.outfit)) == Outfit(pre=session.config.pre)


def test_a_node_by_hand_finds_it_in_the_store_too(users: Users) -> None:
    session = users.session(post="rm -rf /scratch")
    pool = pool_of_request(session, private=False)
    assert f"KUBEQ_AGENT_OUTFIT={pool.outfit}" in agent_by_hand(session, pool).command
    assert pool.outfit is not None and session.blobs.read(pool.outfit)


def test_a_pool_whose_maker_was_interrupted_has_it_before_its_first_node(users: Users) -> None:
    session = users.session(pre="apt install x")
    pool = pool_of_request(session, private=False)
    session.queue.make_pool(pool)  # and then nothing more was stored
    add_nodes(session, pool, 1)
    assert pool.outfit is not None
    assert decode_outfit(session.blobs.read(pool.outfit)) == Outfit(pre="apt install x")


def test_a_submission_stores_it_with_its_inputs_and_nodes_added_later_find_it(users: Users) -> None:
    job = submitted(users.session(pre="echo ready")).job
    later = users.session()
    pool = pool_of_job(later, job)
    assert pool.outfit is not None
    assert decode_outfit(later.blobs.read(pool.outfit)).pre == "echo ready"
    add_nodes(later, pool, 1)
    assert users.provider.requests[0][1].outfit == pool.outfit


def test_an_equal_job_with_another_outfit_is_another_job(users: Users) -> None:
    first = submitted(users.session(name="a", pre="true"))
    again = submitted(users.session(name="a", pre="true"), IfExists.SKIP)
    other = submitted(users.session(name="a", pre="false"), IfExists.SKIP)
    assert (again.created, again.job.id) == (False, first.job.id)
    assert other.created


def test_no_cleaning_takes_it_from_a_node_that_may_still_come(users: Users, work: Work) -> None:
    session = users.session(pre="true")
    pool = pool_of_request(session, private=False)
    add_nodes(session, pool, 1)
    junk = session.blobs.put_bytes(b"nobody's")
    assert find_unused(session, grace_s=0).ripe == (junk,)


def test_a_pools_record_keeps_it(users: Users) -> None:
    pool = users.pool(pre="true")
    assert decode_pool(pool.id, encode_pool(pool)) == pool


@pytest.mark.parametrize("line", ["", "  ", "a\0b", "caf\udce9"])
def test_what_no_shell_can_run_is_refused(users: Users, line: str) -> None:
    with pytest.raises(UsageError, match="--pre"):
        users.session(pre=line)


def test_a_pool_whose_nodes_cannot_be_made_ready_is_given_up_with_the_reason(users: Users, work: Work) -> None:
    session = users.session(pre="exit 9")
    job = submitted(session).job
    pool, said, note = pool_of_job(session, job), [], "its --pre command failed: exit code 9"
    tending = Tending(session, said.append)
    ensure_nodes(session, pool)
    with pytest.raises(BackendError) as error:
        for _ in range(MOST_RELAUNCHES + 1):
            name = users.provider.requests[-1][0]
            work.report_node(
                name=name,
                pool=pool.id,
                state=NodeState.GONE,
                gone=GoneReason.SETUP,
                note=note,
                ended_at=work.clock.now(),
            )
            users.provider.die(name)
            nodes = observe_pool(session, pool.id)
            assert name in [node.name for node in nodes.retired]
            tending(session.queue.refresh(job), session.queue.outcomes(job.id), nodes)
    assert len(users.provider.requests) == 1 + MOST_RELAUNCHES
    assert note in error.value.message and f"kubeq logs {name}" in error.value.message
    assert said[0] == f"starting another node in place of {pool.id}-1"


def test_a_submission_that_was_cut_short_is_completed_with_its_outfit(users: Users, tmp_path: Path) -> None:
    from kubeq.actions.drafts import read_draft
    from kubeq.actions.submit import complete

    session = users.session(pre="echo ready")
    upload = session.blobs.upload

    def killed(*_: Any, **__: Any) -> None:
        raise BackendError("the network is away")

    session.blobs.upload = killed  # type: ignore[method-assign]
    with pytest.raises(BackendError):
        submitted(session)
    session.blobs.upload = upload  # type: ignore[method-assign]
    (entry,) = session.queue.entries()
    (job,) = session.queue.jobs([entry])
    later = users.session()
    pool = pool_of_job(later, complete(later, read_draft(later, job)).job)
    assert pool.outfit is not None and later.blobs.read(pool.outfit)
    assert replace(pool, nodes=0) == pool


def test_an_overlay_is_sent_once_names_the_pool_by_its_content_and_is_never_cleaned_away(
    users: Users, tmp_path: Path
) -> None:
    folder = tmp_path / "overlay"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/app.conf").write_text("one")
    first, again = submitted(users.session(overlay=str(folder))), submitted(users.session(overlay=str(folder)))
    assert (first.upload.files, again.upload.files, again.upload.already) == (1, 0, 1)
    assert again.job.pool == first.job.pool
    assert find_unused(users.session(), grace_s=0).ripe == ()
    session = users.session()
    pool = pool_of_job(session, first.job)
    assert pool.outfit is not None
    overlay = decode_outfit(session.blobs.read(pool.outfit)).overlay
    assert overlay is not None
    (etc, conf) = Overlay.decode(session.blobs.read(overlay)).entries
    assert (etc.is_directory, conf.path, conf.digest) == (True, "etc/app.conf", Digest.of(b"one"))
    assert session.blobs.read(Digest.of(b"one")) == b"one"
    (folder / "etc/app.conf").write_text("two")
    assert submitted(users.session(overlay=str(folder))).job.pool != first.job.pool


def test_an_overlay_that_cannot_travel_is_refused_before_anything_is_stored(users: Users, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o/passwd").symlink_to("/etc/passwd")
    session = users.session(overlay=str(tmp_path / "o"))
    with pytest.raises(UsageError, match="leads out of the directory"):
        submitted(session)
    assert list(session.blobs.stored()) == [] and session.queue.pools() == []
