"""The relay as commands see it: nodes that come through it, starting it again, letting nodes go."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.agents import ByHand, RelayForm, relayed_by_hand
from kubeq.actions.cleaning import clean_job, forget_gone_nodes
from kubeq.actions.launching import pool_of_job
from kubeq.actions.naming import private_pool_id
from kubeq.actions.node_requests import node_request
from kubeq.actions.relaying import AGAIN_S, RELAYED_POLL_S, SILENT_S, relay_facts, revive_relay, sweep
from kubeq.actions.session import Session
from kubeq.actions.status import summarize
from kubeq.cli.views_nodes import NodesView
from kubeq.core.clock import SystemClock
from kubeq.core.model import Job, NodeName, NodeState, Pool, PoolId, Reach, TaskState
from kubeq.core.resources import Resources
from kubeq.errors import UsageError
from kubeq.queue.claims import Room
from kubeq.queue.open import open_claims
from kubeq.relay.home import RelayHome, Sight
from kubeq.relay_wire import parse_token
from kubeq.sockets import connected
from tests.jobs import Work, session_in
from tests.providers import FakeProvider

BIG = Resources(cpu=8.0, memory=10**12)


class Clock(SystemClock):
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(tmp_path: Path, clock: Clock) -> Iterator[Session]:
    """A session over files; the relay that it started is gone in the end."""
    one = session_in(tmp_path, clock, Session)  # type: ignore[arg-type]
    yield one
    record = RelayHome(one.config.state_dir).record()
    if record is not None:
        os.kill(record.mark.pid, signal.SIGKILL)


@pytest.fixture
def job(session: Session, clock: Clock) -> Job:
    return Work(session, clock).submit([("1",), ("2",)], ["x"])  # type: ignore[arg-type]


@pytest.fixture
def node(session: Session, job: Job) -> ByHand:
    return relayed_by_hand(session, pool_of_job(session, job))


def form(node: ByHand) -> RelayForm:
    assert node.relay is not None
    return node.relay


def home_of(session: Session) -> RelayHome:
    return RelayHome(session.config.state_dir)


def variables(node: ByHand) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(node.command) if "=" in word)


def until(question: object, what: str) -> None:
    assert callable(question)
    deadline = time.monotonic() + 30
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_node_of_the_relay_is_told_its_address_and_where_its_token_is_and_no_secret(
    session: Session, node: ByHand
) -> None:
    told = variables(node)
    secret = form(node).token_file.read_text().strip().rpartition(":")[2]
    assert len(secret) == 64
    assert secret not in node.command
    assert told["KUBEQ_AGENT_QUEUE"] == told["KUBEQ_AGENT_STORE"] == f"relay://{form(node).socket}"
    assert told["KUBEQ_AGENT_TOKEN_FILE"] == str(form(node).token_file)
    assert form(node).token_file.stat().st_mode & 0o777 == 0o600


def test_what_the_line_tells_is_enough_to_work(session: Session, job: Job, node: ByHand, clock: Clock) -> None:
    told = variables(node)
    claims = open_claims(told["KUBEQ_AGENT_QUEUE"], clock, form(node).token_file.read_text())
    grants = claims.claim(job.pool, node.node, Room(free=BIG, total=BIG, starts=9)).grants
    assert [grant.task.id.index for grant in grants] == [1, 2]


def test_nodes_that_reach_everything_themselves_need_no_relay(tmp_path: Path, clock: Clock) -> None:
    session = session_in(tmp_path, clock)  # type: ignore[arg-type]
    away = {"queue_url": "dynamodb://eu-west-1/q", "default_url_prefix": "s3://bucket/x", "cas_url_prefix": "s3://b/x"}
    session.config = replace(session.config, **away)
    with pytest.raises(UsageError) as refused:
        relayed_by_hand(session, Pool(id=PoolId("p"), provider="local", private=False, created_at=1.0))
    assert refused.value.hint


def test_providers_of_other_machines_are_given_a_relay_where_they_need_one(session: Session, job: Job) -> None:
    pool = pool_of_job(session, job)
    assert node_request(session, pool).relay is None, "nodes of this machine see everything"
    far = FakeProvider()
    far.capabilities = replace(far.capabilities, reach=Reach.NETWORK, relays=True)
    pool = Pool(id=PoolId("far"), provider="far", private=False, created_at=1.0)
    session._providers[pool.id] = far
    request = node_request(session, pool)
    assert request.relay is not None
    assert request.poll_s >= RELAYED_POLL_S
    token = parse_token(request.relay.admit(NodeName("far-1"), 1, "host-a"))
    (known,) = home_of(session).admissions.every()
    assert (known.guest.node, known.guest.place, known.guest.provider) == ("far-1", "host-a", "far")
    assert home_of(session).admissions.check(token) == known.guest
    assert connected(request.relay.socket, 5.0).fileno() > 0, "it runs"


def test_a_relay_that_died_is_started_again_while_a_job_waits_and_not_too_often(
    session: Session, node: ByHand, clock: Clock
) -> None:
    home = home_of(session)
    record = home.record()
    assert record is not None
    revive_relay(session)
    assert home.record() == record, "there is one"
    os.kill(record.mark.pid, signal.SIGKILL)
    until(lambda: home.record() is None, "it is dead")
    revive_relay(session)
    time.sleep(0.5)
    assert home.record() is None, "it was begun just now"
    clock.ahead = AGAIN_S + 1
    revive_relay(session)
    until(lambda: home.record() is not None, "there is another")


def test_a_relay_that_no_job_needs_is_not_started_again(session: Session, job: Job, node: ByHand, clock: Clock) -> None:
    home = home_of(session)
    record = home.record()
    assert record is not None
    session.queue.cancel_job(job)
    os.kill(record.mark.pid, signal.SIGKILL)
    until(lambda: home.record() is None, "it is dead")
    clock.ahead = AGAIN_S + 1
    revive_relay(session)
    time.sleep(0.5)
    assert home.record() is None


def test_where_there_is_no_relay_nothing_is_told_and_nothing_made(session: Session) -> None:
    assert relay_facts(session) is None
    revive_relay(session)
    assert not home_of(session).folder.exists()


def test_the_relay_is_told_of_as_it_stands(session: Session, node: ByHand, clock: Clock) -> None:
    home = home_of(session)
    record = home.record()
    assert record is not None
    until(lambda: home.sight() is not None, "it tells whom it has heard")
    facts = relay_facts(session)
    assert facts is not None
    assert (facts.pid, facts.silent_since, facts.heard_at) == (record.mark.pid, None, {node.node: None})
    assert shown(session, clock).endswith("1 node may come through it, none was heard yet")
    told = variables(node)
    open_claims(told["KUBEQ_AGENT_QUEUE"], clock, form(node).token_file.read_text()).peers(told["KUBEQ_AGENT_POOL"])  # type: ignore[arg-type]
    until(lambda: relay_facts(session).heard_at[node.node] is not None, "it has heard the node")  # type: ignore[union-attr]
    assert "the last was heard" in shown(session, clock)
    os.kill(record.mark.pid, signal.SIGSTOP)
    clock.ahead = SILENT_S + 5
    assert "stopped or hanging" in shown(session, clock)
    os.kill(record.mark.pid, signal.SIGKILL)
    until(lambda: home.record() is None, "it is dead")
    assert shown(session, clock) == "relay: not running; 1 node may come through it"
    home.forget(node.node)
    assert relay_facts(session) is None


def shown(session: Session, clock: Clock) -> str:
    return list(NodesView([], clock.now(), relay=relay_facts(session)).text())[-1]


def test_what_an_earlier_relay_heard_is_not_told_of_the_one_that_runs(
    session: Session, node: ByHand, clock: Clock
) -> None:
    home = home_of(session)
    record = home.record()
    assert record is not None
    os.kill(record.mark.pid, signal.SIGSTOP)
    home.write_sight(Sight(at=record.started_at - 5.0, heard_at={node.node: record.started_at - 6.0}))
    facts = relay_facts(session)
    assert facts is not None
    assert facts.heard_at == {node.node: None}


def test_the_nodes_of_a_pool_that_is_no_more_are_let_go(session: Session, clock: Clock) -> None:
    job = Work(session, clock).submit(pool=private_pool_id())  # type: ignore[arg-type]
    node = relayed_by_hand(session, pool_of_job(session, job))
    session.queue.cancel_job(job)
    (summary,) = summarize(session, [session.queue.refresh(job)])
    clean_job(session, summary)
    home = home_of(session)
    assert home.admissions.every() == []
    assert not form(node).token_file.exists()


def test_a_node_that_has_been_gone_for_a_day_is_let_go(session: Session, job: Job, node: ByHand, clock: Clock) -> None:
    Work(session, clock).report_node(name=node.node, pool=job.pool, state=NodeState.GONE)  # type: ignore[arg-type]
    forget_gone_nodes(session)
    assert [each.guest.node for each in home_of(session).admissions.every()] == [node.node]
    clock.ahead = 2 * 86400.0
    forget_gone_nodes(session)
    assert home_of(session).admissions.every() == []


def test_a_command_never_ends_leases_of_a_paused_job_with_nodes_behind_the_relay(
    session: Session, job: Job, node: ByHand, clock: Clock
) -> None:
    session.queue.claim(job.pool, NodeName("x"), Room(free=BIG, total=BIG, starts=1))
    paused = session.queue.pause(job)
    clock.ahead = 10 * job.policy.lease_s
    sweep(session, paused)
    assert session.queue.tasks_at(job.id, [1])[0].state is TaskState.CLAIMED
    home_of(session).forget(node.node)
    sweep(session, paused)
    assert session.queue.tasks_at(job.id, [1])[0].state is TaskState.PENDING
