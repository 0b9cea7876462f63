"""Laying an overlay: merged, replaced as a whole, never through a link that leads elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubeq.core.overlay import Laid, Overlay
from kubeq.errors import BackendError, ObjectNotFound
from kubeq.store.blobs import Blobs
from kubeq.store.memory import MemoryStore
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.overlaying import lay


class Node:
    """A node's file system below a folder, and a store with the overlay's files."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "node"
        self.root.mkdir()
        self.blobs = Blobs(MemoryStore())
        self.cache = BlobCache(folder / "cache", self.blobs)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> Laid:
        return Laid(path, mode, self.blobs.put_bytes(content))

    def lay(self, *entries: Laid) -> None:
        lay(Overlay.of(entries), self.cache, self.root)

    def mode(self, path: str) -> int:
        return stat.S_IMODE((self.root / path).lstat().st_mode)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_what_the_overlay_holds_appears_with_its_modes_and_whatever_the_umask_is(node: Node) -> None:
    before = os.umask(0o077)
    try:
        node.lay(
            Laid("etc", 0o755),
            node.file("etc/app.conf", b"new", 0o640),
            node.file("opt/app/run", b"#!/bin/sh\n", 0o755),
            Laid("etc/current", 0o777, None, "app.conf"),
            Laid("var/empty", 0o1777 & 0o777),
        )
    finally:
        os.umask(before)
    assert (node.root / "etc/current").read_bytes() == b"new"
    assert (node.root / "etc/current").is_symlink()
    modes = {path: node.mode(path) for path in ("etc", "etc/app.conf", "opt/app", "opt/app/run", "var/empty")}
    assert modes == {"etc": 0o755, "etc/app.conf": 0o640, "opt/app": 0o755, "opt/app/run": 0o755, "var/empty": 0o777}


def test_directories_are_merged_and_keep_their_modes_and_nothing_is_deleted(node: Node) -> None:
    (node.root / "root").mkdir(mode=0o700)
    (node.root / "root/kept").write_text("kept")
    (node.root / "root/old").write_text("old")
    node.lay(Laid("root", 0o755), node.file("root/old", b"new"))
    assert node.mode("root") == 0o700
    assert (node.root / "root/kept").read_text() == "kept"
    assert (node.root / "root/old").read_text() == "new"


def test_a_file_is_replaced_as_a_whole_and_who_has_it_open_keeps_the_old_one(node: Node) -> None:
    (node.root / "f").write_text("old")
    with (node.root / "f").open() as reader:
        node.lay(node.file("f", b"new"))
        assert reader.read() == "old"
    assert sorted(path.name for path in node.root.iterdir()) == ["f"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_is_not_touched(node: Node, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    (node.root / "f").symlink_to(target)
    node.lay(node.file("f", b"new"))
    assert target.read_text() == "untouched"
    assert not (node.root / "f").is_symlink()


def test_the_systems_own_links_to_directories_are_followed_inside_the_root(node: Node) -> None:
    (node.root / "usr/bin").mkdir(parents=True)
    (node.root / "bin").symlink_to("usr/bin")
    (node.root / "run").mkdir()
    (node.root / "var").mkdir()
    (node.root / "var/run").symlink_to(node.root / "run")
    node.lay(node.file("bin/tool", b"t", 0o755), node.file("var/run/app/pid", b"1"))
    assert (node.root / "bin").is_symlink() and (node.root / "usr/bin/tool").read_bytes() == b"t"
    assert (node.root / "run/app/pid").read_bytes() == b"1"


@pytest.mark.parametrize("target", ["/outside", "../outside", "d/../../outside"])
def test_a_link_that_leads_out_of_the_root_is_refused(node: Node, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (node.root / "d").mkdir()
    (node.root / "home").symlink_to(str(outside) if target.startswith("/") else target)
    with pytest.raises(BackendError, match=r"home/\.bashrc cannot be laid: a link on the way leads out"):
        node.lay(node.file("home/.bashrc", b"x"))
    assert list(outside.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
def test_a_link_of_another_user_turns_nothing_elsewhere(node: Node) -> None:
    (node.root / "etc").mkdir()
    (node.root / "tmp").mkdir(mode=0o1777)
    (node.root / "tmp/app").symlink_to("../etc")
    os.lchown(node.root / "tmp/app", 12345, 12345)
    with pytest.raises(BackendError, match="belongs to another user"):
        node.lay(node.file("tmp/app/passwd", b"x"))
    assert list((node.root / "etc").iterdir()) == []


def test_links_that_turn_in_a_circle_are_refused(node: Node) -> None:
    (node.root / "a").symlink_to("b")
    (node.root / "b").symlink_to("a")
    with pytest.raises(BackendError, match="too many links"):
        node.lay(node.file("a/f", b"x"))


def test_a_directory_in_the_way_of_a_file_is_named_and_stays(node: Node) -> None:
    (node.root / "f").mkdir()
    (node.root / "f/kept").write_text("kept")
    with pytest.raises(BackendError, match="node/f cannot be laid: Is a directory"):
        node.lay(node.file("f", b"x"))
    assert (node.root / "f/kept").read_text() == "kept"
    assert sorted(path.name for path in node.root.iterdir()) == ["f"]


def test_what_takes_long_asks_again_and_again_whether_to_go_on(node: Node) -> None:
    answers = [False, False, True]
    with pytest.raises(BackendError, match="c is not laid any more: the node was told to leave"):
        lay(
            Overlay.of([node.file(name, b"x") for name in "abcd"]),
            node.cache,
            node.root,
            stopped=lambda: answers.pop(0),
        )
    assert sorted(path.name for path in node.root.iterdir()) == ["a", "b"]


def test_a_file_in_the_way_of_a_directory_is_named(node: Node) -> None:
    (node.root / "d").write_text("a file")
    with pytest.raises(BackendError, match="node/d/f cannot be laid: Not a directory"):
        node.lay(node.file("d/f", b"x"))


def test_a_file_that_the_store_has_not_is_an_error_and_leaves_nothing_half_written(node: Node) -> None:
    laid = node.file("f", b"x")
    assert laid.digest is not None
    node.blobs.delete([laid.digest])
    with pytest.raises(ObjectNotFound):
        node.lay(laid)
    assert list(node.root.iterdir()) == []
