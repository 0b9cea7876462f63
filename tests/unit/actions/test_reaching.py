"""Reaching into nodes: what is run here for it, and files that go to and fro. This machine is the node."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from kubeq.actions.copying import _PUT, copy, parse_place
from kubeq.actions.launching import add_nodes, pool_of_request
from kubeq.actions.reaching import command_in, command_on, first_node, provider_command
from kubeq.actions.session import Session
from kubeq.core.model import Node, NodeName, NodeState
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


def on_path(root: Path, program: str, line: str) -> None:
    """A program of that name in `bin`, which does the line."""
    (root / "bin").mkdir()
    (root / "bin" / program).write_text(f"#!/bin/sh\n{line}\n")
    (root / "bin" / program).chmod(0o755)


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


def test_copies_none_of_which_comes_leave_no_folder(session: Session, tmp_path: Path) -> None:
    copied = copy(session, f"all:{tmp_path}/none", str(tmp_path / "got"))
    assert len(copied) > 1
    assert all(each.error for each in copied)
    assert not (tmp_path / "got").exists()


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


def test_a_node_made_by_hand_on_another_machine_has_no_way_in(session: Session) -> None:
    by_hand = NodeName("by-hand")
    session.queue.report(
        Node(
            name=by_hand,
            pool=pool_of_request(session, private=False).id,
            number=9,
            provider="manual",
            state=NodeState.ACTIVE,
            host="far",
            requested_at=session.clock.now(),
            seen_at=session.clock.now(),
        )
    )
    with pytest.raises(Conflict, match=f"node {by_hand} was made by hand on far, and kubeq has no way into it"):
        command_on(session, by_hand, ["true"], terminal=False)
    copied = copy(session, f"all:{__file__}", str(session.config.state_dir / "copies"))
    assert {each.node: each.error is None for each in copied} == {
        name(session, 1): True,
        name(session, 2): True,
        by_hand: False,
    }


def test_a_node_that_complains_much_is_heard_to_the_end(session: Session, tmp_path: Path) -> None:
    on_path(tmp_path, "tar", "yes 'tar: a file changed as we read it' | head -n 20000 >&2; exit 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        (copied,) = copy(session, f"{name(session, 1)}:{tmp_path}/x", str(tmp_path / "y"))
    assert copied.error == "tar: a file changed as we read it"


def test_what_cannot_be_read_here_leaves_nothing_there(session: Session, tmp_path: Path) -> None:
    folder, there = tmp_path / "folder", tmp_path / "there"
    folder.mkdir()
    there.mkdir()
    (folder / "a").write_bytes(bytes(4_000_000))
    on_path(tmp_path, "tar", f'truncate -s 1000 {folder}/a; exec /bin/tar "$@"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        (copied,) = copy(session, str(folder), f"{name(session, 1)}:{there}")
    assert copied.error == f"{folder}: unexpected end of data"
    assert list(tmp_path.glob(".kubeq-*")) == list(there.iterdir()) == []


def test_an_archive_that_was_cut_off_between_two_files_is_not_taken(session: Session, tmp_path: Path) -> None:
    command = provider_command(
        session, first_node(session), ["sh", "-c", _PUT, "kubeq", str(tmp_path / "x"), "d"], False
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w|") as archive:
        archive.addfile(tarfile.TarInfo("content/d/a"))
    ended = subprocess.run(command, input=packed.getvalue()[:512], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"not all of it has come\n")
    assert list(tmp_path.glob("*x")) == list(tmp_path.glob(".kubeq-*")) == []


def test_a_file_that_stands_there_is_replaced_at_once_and_a_directory_is_added_to(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "there/d").mkdir(parents=True)
    standing, node = tmp_path / "there/file", name(session, 1)
    standing.write_text("old")
    with standing.open() as held:
        assert [each.error for each in copy(session, str(tmp_path / "new"), f"{node}:{standing}")] == [None]
        assert held.read() == "old"
    assert standing.read_text() == "new"
    (tmp_path / "d").mkdir()
    (tmp_path / "d/more").write_text("more")
    (tmp_path / "there/d/kept").write_text("kept")
    assert [each.error for each in copy(session, str(tmp_path / "d"), f"{node}:{tmp_path}/there")] == [None]
    assert sorted(path.name for path in (tmp_path / "there/d").iterdir()) == ["kept", "more"]
    (tmp_path / "there/d/new").mkdir()
    (copied,) = copy(session, str(tmp_path / "new"), f"{node}:{tmp_path}/there/d")
    assert copied.error == f"{tmp_path}/there/d/new is a directory"
