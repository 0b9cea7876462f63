"""A directory of a task as an archive, and back; what is hostile in either stays harmless."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from kubeq.errors import IntegrityError
from kubeq_consumer.packing import pack, unpack


def tree(root: Path) -> dict[str, object]:
    """What is there: texts of files with their modes, targets of links, None for directories."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = path.readlink()
        else:
            found[name] = None if path.is_dir() else (path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def test_what_was_packed_is_there_again_and_the_same_is_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "epoch 7/empty").mkdir(parents=True)
    (one / "epoch 7/weights\n").write_bytes(bytes(range(256)))
    (one / "run").write_text("#!/bin/sh\n")
    (one / "run").chmod(0o750)
    (one / "latest").symlink_to("epoch 7")
    assert pack(one, tmp_path / "first.tar")
    other.mkdir()
    unpack(tmp_path / "first.tar", other)
    assert tree(other) == tree(one)
    assert pack(other, tmp_path / "second.tar")
    kept = [(tmp_path / name).read_bytes() for name in ("first.tar", "second.tar")]
    again = tmp_path / "again"
    again.mkdir()
    unpack(tmp_path / "second.tar", again)
    assert tree(again) == tree(one)
    assert len(kept[0]) == len(kept[1])


def test_an_empty_directory_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not pack(tmp_path / "empty", tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_no_link_is_followed_and_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the node")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "to-file").symlink_to(secret)
    (folder / "to-folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    assert pack(folder, tmp_path / "x.tar")
    assert b"of the node" not in (tmp_path / "x.tar").read_bytes()
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert sorted(tar.getnames()) == ["to-file", "to-folder"]


def hostile(path: Path, *members: tuple[str, bytes | str]) -> None:
    """An archive of files (bytes) and links (text)."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "./out", "a//out"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    hostile(tmp_path / "x.tar", (name, b"x"))
    with pytest.raises(IntegrityError, match="would be elsewhere"):
        unpack(tmp_path / "x.tar", tmp_path / "in")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    hostile(tmp_path / "x.tar", ("link", str(tmp_path / "out")), ("link/file", b"x"))
    with pytest.raises((IntegrityError, OSError)):
        unpack(tmp_path / "x.tar", tmp_path / "in")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x" * 700)
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        unpack(tmp_path / "x.tar", tmp_path)
