"""What `inject` takes for a package, and that a pool has it before any of its nodes is told."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.actions.injecting import inject
from kubeq.actions.launching import pool_of_request
from kubeq.actions.session import Session
from kubeq.actions.unused_blobs import find_unused
from kubeq.core.model import Node, NodeName, NodeState, Pool
from kubeq.core.overlay import Overlay
from kubeq.errors import Conflict, UsageError
from kubeq.queue import pools


@pytest.fixture
def pool(session: Session) -> Pool:
    return pool_of_request(session, private=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "web server"
    (root / "lib").mkdir(parents=True)
    (root / "kubeq-launch").write_text("#!/bin/sh\nexec python3 lib/web.py\n")
    (root / "lib/web.py").write_text("print('up')\n")
    (root / "lib/latest").symlink_to("web.py")
    return root


def packed(folder: Path, **members: tarfile.TarInfo) -> Path:
    """An archive of the folder, and of members that somebody made up."""
    path = folder.parent / "p.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="inner")
        for member in members.values():
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def node(pool: Pool, number: int, state: NodeState = NodeState.ACTIVE) -> Node:
    name = NodeName(f"{pool.id}-{number}")
    return Node(name=name, pool=pool.id, number=number, provider="local", state=state, host="h", requested_at=1.0)


def test_a_package_is_stored_whole_named_by_the_pool_and_told_to_the_nodes_that_are_there(
    session: Session, pool: Pool, package: Path
) -> None:
    for number, state in enumerate((NodeState.ACTIVE, NodeState.GONE, NodeState.STARTING), 1):
        session.queue.report(node(pool, number, state))
    done = inject(session, pool, package)
    assert (done.new, done.nodes) == (True, (f"{pool.id}-1", f"{pool.id}-3"))
    assert list(session.queue.packages(pool.id)) == [done.package]
    assert (done.package.name, done.package.entry, done.package.number) == ("web-server", "kubeq-launch", 1)
    entries = {entry.path: entry for entry in Overlay.decode(session.blobs.read(done.package.content)).entries}
    assert list(entries) == ["kubeq-launch", "lib", "lib/latest", "lib/web.py"]
    assert entries["kubeq-launch"].mode & 0o100 and not entries["lib/web.py"].mode & 0o100
    assert find_unused(session, grace_s=0).ripe == ()


def test_the_same_package_stays_as_it_is_unless_it_is_to_be_started_again(
    session: Session, pool: Pool, package: Path
) -> None:
    first, same = inject(session, pool, package), inject(session, pool, package)
    assert (same.new, same.package) == (False, first.package)
    again = inject(session, pool, package, again=True)
    assert (again.new, again.package) == (True, replace(first.package, number=2))
    (package / "lib/web.py").write_text("print('better')\n")
    better = inject(session, pool, package)
    assert (better.new, better.package.number) == (True, 3)
    assert list(session.queue.packages(pool.id)) == [better.package]


@pytest.mark.parametrize("name", ["vcloud-launch", "kubeq-launch"])
def test_an_archive_is_a_package_and_its_only_folder_may_hold_the_program(
    session: Session, pool: Pool, package: Path, name: str
) -> None:
    (package / "kubeq-launch").rename(package / name)
    done = inject(session, pool, packed(package))
    assert (done.package.name, done.package.entry) == ("p", f"inner/{name}")


def test_any_file_can_be_named_as_the_program(session: Session, pool: Pool, package: Path) -> None:
    assert inject(session, pool, package, entry="./lib/web.py").package.entry == "lib/web.py"


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        _member("../out"),
        _member("inner/../../out"),
        _member("link", tarfile.SYMTYPE, "/etc/passwd"),
        _member("link", tarfile.SYMTYPE, "../out"),
        _member("link", tarfile.LNKTYPE, "../out"),
        _member("null", tarfile.CHRTYPE),
        _member("fifo", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.linkname}",
)
def test_an_archive_that_reaches_out_of_its_folder_is_no_package(
    session: Session, pool: Pool, package: Path, member: tarfile.TarInfo
) -> None:
    with pytest.raises(UsageError, match="cannot be a package"):
        inject(session, pool, packed(package, member=member))
    assert list(session.blobs.stored()) == [] and session.queue.pools() == []


def _leading_out(root: Path) -> None:
    (root / "up").symlink_to("../../etc")


def _cut_off(root: Path) -> None:
    content = packed(root).read_bytes()
    (root.parent / "p.tar.gz").write_bytes(content[: len(content) // 2])


WRONG: list[tuple[str, Callable[[Path], object], str, str | None, str]] = [
    ("missing", lambda root: None, "nowhere", None, "does not exist"),
    ("empty", lambda root: (root.parent / "e/d").mkdir(parents=True), "e", None, "holds no file"),
    ("text", lambda root: None, "web server/kubeq-launch", None, "is no archive that can be read"),
    ("cut off", _cut_off, "p.tar.gz", None, "is no archive that can be read"),
    ("no program", lambda root: (root / "kubeq-launch").unlink(), "web server", None, "has no program to start"),
    ("no such program", lambda root: None, "web server", "run", "has no file 'run'"),
    ("a directory", lambda root: None, "web server", "lib", "has no file 'lib'"),
    ("outside", lambda root: None, "web server", "../x", "is no path inside"),
    ("absolute", lambda root: None, "web server", "/bin/sh", "is no path inside"),
    ("a link out", _leading_out, "web server", None, "leads out of the directory"),
    ("a device", lambda root: None, "/dev/null", None, "neither a directory nor an archive"),
]


@pytest.mark.parametrize(
    ("make", "source", "entry", "why"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_what_is_no_package_is_refused_before_anything_is_stored(
    session: Session,
    pool: Pool,
    package: Path,
    make: Callable[[Path], object],
    source: str,
    entry: str | None,
    why: str,
) -> None:
    make(package)
    with pytest.raises(UsageError, match=why) as refused:
        inject(session, pool, package.parent / source, entry=entry)
    assert "\n" not in refused.value.message
    assert list(session.blobs.stored()) == [] and session.queue.pools() == []


def test_a_pool_has_a_bounded_number_of_packages(
    session: Session, pool: Pool, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "MOST_PACKAGES", 1)
    inject(session, pool, package)
    inject(session, pool, package, again=True)
    with pytest.raises(Conflict, match="1 packages already"):
        inject(session, pool, package.rename(package.with_name("other")))
