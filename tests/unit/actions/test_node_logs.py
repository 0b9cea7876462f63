"""A node's log and all that it ran, read here or from the store, whole or as it comes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.cleaning import GONE_S, forget_gone_nodes
from kubeq.actions.node_logs import Line, follow_node, open_node_log, read_node, readable_log_line
from kubeq.actions.session import Session
from kubeq.core.model import GoneReason, Node, NodeName, NodeState, Pool
from kubeq.errors import NotFound
from kubeq.queue.claims import Grant
from kubeq.store.logs import LogWriter
from kubeq.store.node_logs import node_log_writer
from tests.jobs import EPOCH, NODE, POOL, FakeClock, Work

NAME = NodeName("n-1")


def entry(message: str, **more: str) -> str:
    return json.dumps({"at": "2026-01-02T03:04:05.678+00:00", "level": "info", "message": message, **more}) + "\n"


def begins(grant: Grant) -> str:
    label = f"{grant.task.id}/{grant.attempt}"
    return entry(f"attempt {label} starts: work", attempt=label)


@pytest.fixture
def folder(session: Session) -> Path:
    folder = Path(session.config.state_dir) / "nodes" / NAME
    folder.mkdir(parents=True)
    return folder


def texts(session: Session, name: NodeName = NAME) -> list[str]:
    return [line.text for line in read_node(session, name)]


# -- a node of this machine -------------------------------------------------------------------------------------------


def test_it_is_readable_in_its_order_and_what_is_not_ours_stays(session: Session, folder: Path) -> None:
    (folder / "agent.log").write_text(entry("hi") + "not json\nno end")
    (folder / "agent.log.1").write_text(
        '{"at": "2026-01-01T00:00:00+00:00", "level": "warning", "message": "before"}\n'
    )
    (folder / "agent.out").write_text("what Python said\n")
    assert texts(session) == [
        "what Python said",
        "2026-01-01 00:00:00Z WARNING before",
        "2026-01-02 03:04:05Z INFO    hi",
        "not json",
        "no end",
    ]


def test_of_an_agent_that_never_came_to_log_it_is_what_it_printed(session: Session, folder: Path) -> None:
    (folder / "agent.out").write_text("error: no module named kubeq_consumer\n")
    assert texts(session) == ["error: no module named kubeq_consumer"]


def test_a_traceback_stands_on_lines_of_its_own() -> None:
    line = '{"at": "2026-01-02T03:04:05Z", "level": "error", "message": "no", "traceback": "Traceback\\n  File x"}'
    assert readable_log_line(line) == "2026-01-02 03:04:05Z ERROR   no\n    Traceback\n      File x"


@pytest.mark.parametrize("name", ["nobody", "../../etc", ".."])
def test_the_log_of_an_unknown_node_is_not_found(session: Session, name: str) -> None:
    with pytest.raises(NotFound, match="no node of that name with a log"):
        open_node_log(session, NodeName(name))


# -- all that it ran --------------------------------------------------------------------------------------------------


def test_what_it_ran_follows_in_the_order_of_the_beginnings_each_line_with_its_task(
    session: Session, folder: Path, work: Work
) -> None:
    work.submit([("1",), ("2",)], ["n"])
    one, two = work.claim(1)[0], work.claim(1)[0]
    work.end(one, stdout=b"first\n10%\r100%\n")
    (folder / "agent.log").write_text(begins(two) + begins(one))
    LogWriter(session.store, two.task.id, 1).append(b"still runs")
    assert list(read_node(session, NAME))[2:] == [
        Line(text="still runs", task=two.task.id, attempt=1),
        Line(text="first", task=one.task.id, attempt=1),
        Line(text="100%", task=one.task.id, attempt=1),
    ]


def test_output_that_was_cleaned_away_is_left_out(session: Session, folder: Path, work: Work) -> None:
    (folder / "agent.log").write_text(entry("x", attempt="20260101-000000-0000/1/1") + entry("y", attempt="what"))
    assert len(texts(session)) == 2


# -- from the store ---------------------------------------------------------------------------------------------------


def test_the_log_of_a_node_elsewhere_comes_from_the_store(session: Session) -> None:
    writer = node_log_writer(session.store, NAME)
    writer.append((entry("one") + "tw").encode())
    writer.append(b"o\n")
    node_log_writer(session.store, NAME).append(b"another life\n")
    assert texts(session) == ["2026-01-02 03:04:05Z INFO    one", "two", "another life"]


def test_it_goes_with_the_node_when_that_is_forgotten(session: Session, work: Work, clock: FakeClock) -> None:
    session.queue.number_nodes(Pool(id=POOL, provider="local", private=False, created_at=0.0), 1)
    gone(work)
    node_log_writer(session.store, NODE).append(b"x\n")
    forget_gone_nodes(session)
    assert texts(session, NODE) == ["x"]
    clock.advance(GONE_S + 1)
    forget_gone_nodes(session)
    assert list(session.store.list("nodes/")) == []


# -- as it comes ------------------------------------------------------------------------------------------------------


def gone(work: Work) -> Node:
    return work.report_node(state=NodeState.GONE, gone=GoneReason.IDLE, ended_at=work.clock.wall)


def test_following_shows_the_log_and_what_runs_side_by_side_and_ends_with_the_node(
    session: Session, work: Work
) -> None:
    work.report_node()
    work.submit()
    grant = work.claim(1)[0]
    writer, output = node_log_writer(session.store, NODE), LogWriter(session.store, grant.task.id, 1)
    writer.append(begins(grant).encode())
    output.append(b"tick\nto")
    lines = follow_node(session, NODE)
    first, tick = next(lines), next(lines)
    assert first is not None and "starts: work" in first.text
    assert tick == Line(text="tick", task=grant.task.id, attempt=1)
    assert next(lines) is None
    writer.append(entry("it goes on").encode())
    output.append(b"ck\nlast")
    goes_on, tock = next(lines), next(lines)
    assert goes_on is not None and goes_on.text.endswith("it goes on")
    assert tock is not None and tock.text == "tock"
    gone(work)
    assert [line.text for line in lines if line is not None] == ["last"]


def test_following_goes_on_through_a_rotation(session: Session, folder: Path) -> None:
    path = folder / "agent.log"
    path.write_text("one\n")
    lines = (line for line in follow_node(session, NAME) if line is not None)
    assert next(lines).text == "one"
    with path.open("a") as file:
        file.write("two\n")
    assert next(lines).text == "two"
    path.rename(path.with_name("agent.log.1"))
    path.write_text("three\n")
    assert next(lines).text == "three"


def test_following_a_node_that_is_only_coming_up_waits_for_its_log(session: Session, folder: Path) -> None:
    (folder / "agent.out").touch()
    lines = follow_node(session, NAME)
    assert next(lines) is None
    (folder / "agent.log").write_text("here I am\n")
    line = next(lines)
    assert line is not None and line.text == "here I am"


def test_a_node_that_has_been_silent_for_long_is_not_waited_for(
    session: Session, folder: Path, work: Work, clock: FakeClock
) -> None:
    (folder / "agent.log").write_text("one\n")
    work.report_node(name=NAME, pool="n")
    clock.advance(1000)
    assert [line.text for line in follow_node(session, NAME) if line is not None] == ["one"]


# -- a node that has printed nothing ----------------------------------------------------------------------------------


def test_of_a_node_that_has_printed_nothing_yet_it_is_said_what_it_does(
    session: Session, work: Work, clock: FakeClock
) -> None:
    session.queue.record_requested([replace(node_row(), started_at=None, state=NodeState.REQUESTED)])
    clock.advance(20.0)
    with pytest.raises(NotFound) as coming:
        open_node_log(session, NODE)
    assert coming.value.message == (
        f"node {NODE} is requested for 20s and has printed nothing yet: its agent has not spoken yet"
    )
    assert coming.value.hint == f"kubeq nodes shows how it comes up; then kubeq logs {NODE} again"
    work.report_node()
    with pytest.raises(NotFound, match="what its agent logs is on its way"):
        open_node_log(session, NODE)


def test_of_a_node_that_went_without_a_word_it_is_said_why(session: Session) -> None:
    gone = replace(node_row(), state=NodeState.GONE, gone=GoneReason.NEVER_STARTED, note="no zone has room")
    session.queue.record_end(gone)
    with pytest.raises(NotFound) as silent:
        open_node_log(session, NODE)
    assert (
        silent.value.message == f"node {NODE} has printed nothing before it was gone (never_started): no zone has room"
    )


def node_row() -> Node:
    return Node(
        name=NODE,
        pool=POOL,
        number=1,
        provider="ec2",
        state=NodeState.ACTIVE,
        host="",
        requested_at=EPOCH,
        seen_at=None,
    )
