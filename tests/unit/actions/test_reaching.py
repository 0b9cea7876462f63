"""Reaching into nodes: what is run here for it, and files that go to and fro. This machine is the node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubeq.actions.copying import copy, parse_place
from kubeq.actions.launching import add_nodes, pool_of_request
from kubeq.actions.reaching import command_in, command_on, first_node
from kubeq.actions.session import Session
from kubeq.core.model import NodeName
from kubeq.errors import Conflict, NotFound, UsageError
from kubeq.nodes.local import LocalProvider
from tests.jobs import Work
from tests.providers import FakeProvider


class HereProvider(FakeProvider):
    """Nodes that are entries, and commands that run here."""

    command = LocalProvider.command  # type: ignore[assignment]


@pytest.fixture
def session(work: Work) -> Session:
    session = work.session
    session.__dict__["provider"] = HereProvider()
    add_nodes(session, pool_of_request(session, private=False), 2)
    return session


def name(session: Session, number: int) -> NodeName:
    return NodeName(f"{pool_of_request(session, private=False).id}-{number}")


def test_without_a_name_it_is_the_first_live_node(session: Session) -> None:
    assert first_node(session).number == 1


def test_a_command_runs_on_the_node_that_is_named(session: Session) -> None:
    assert command_on(session, "2", ["echo", "a b"], terminal=False) == ["echo", "a b"]
    with pytest.raises(NotFound):
        command_on(session, "no-such", [], terminal=True)


def test_without_words_it_is_a_shell(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/dash")
    assert command_on(session, None, [], terminal=True) == ["/bin/dash"]


def test_a_task_that_does_not_run_has_no_container(session: Session, work: Work) -> None:
    job = work.submit(("1", "2"))
    with pytest.raises(Conflict, match="pending"):
        command_in(session, f"{job.id}/1", [], terminal=False)
    with pytest.raises(UsageError, match="2 tasks"):
        command_in(session, job.id, [], terminal=False)


@pytest.mark.parametrize("text", ["out", "./a:b", "/x/y:z", ".:x", "dir/a:b"])
def test_what_is_a_place_here(text: str) -> None:
    assert parse_place(text) is None


@pytest.mark.parametrize("text", ["node:", "node:/", "node:../x", "node:a/../b", "all:.."])
def test_what_is_no_place_on_a_node(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


def test_a_file_and_a_directory_come_as_cp_would_have_them(session: Session, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "deep").mkdir(parents=True)
    (there / "deep/run").write_text("#!/bin/sh\n")
    (there / "deep/run").chmod(0o755)
    one = name(session, 1)
    assert [each.error for each in copy(session, f"{one}:{there}/deep/run", str(tmp_path / "new"))] == [None]
    assert (tmp_path / "new").read_text() == "#!/bin/sh\n"
    (tmp_path / "into").mkdir()
    copy(session, f"{one}:{there}/deep", str(tmp_path / "into"))
    assert os.access(tmp_path / "into/deep/run", os.X_OK)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".kubeq")) == []


def test_from_all_nodes_each_copy_is_labelled(session: Session, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    copied = copy(session, f"all:{tmp_path}/log", str(tmp_path / "logs"))
    assert [each.node for each in copied] == [name(session, 1), name(session, 2)]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("logs/*/log")) == [
        f"logs/{name(session, number)}/log" for number in (1, 2)
    ]


def test_what_goes_to_a_node_arrives_whole_or_not_at_all(session: Session, tmp_path: Path) -> None:
    (tmp_path / "it's").write_text("content")
    target = tmp_path / "made" / "here"
    assert [each.error for each in copy(session, str(tmp_path / "it's"), f"{name(session, 1)}:{target}")] == [None]
    assert target.read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["here"]


def test_what_is_not_there_is_an_error_of_that_node_alone(session: Session, tmp_path: Path) -> None:
    (copied,) = copy(session, f"{name(session, 1)}:{tmp_path}/none", str(tmp_path / "x"))
    assert copied.error is not None
    assert "none" in copied.error
    assert not (tmp_path / "x").exists()


def test_an_archive_that_would_leave_its_place_is_refused(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/link").symlink_to("/etc")
    (copied,) = copy(session, f"{name(session, 1)}:{tmp_path}/bad", str(tmp_path / "got"))
    assert copied.error is not None
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(("source", "destination"), [("a", "b"), ("n:/a", "n:/b")])
def test_one_of_the_two_places_is_on_a_node(session: Session, source: str, destination: str) -> None:
    with pytest.raises(UsageError):
        copy(session, source, destination)


def test_a_missing_source_is_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone"):
        copy(session, str(tmp_path / "gone"), f"{name(session, 1)}:/x")
