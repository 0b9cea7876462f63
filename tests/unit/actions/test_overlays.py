"""What an overlay holds travels as it is; what cannot is named before anything is sent; nothing outside is read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kubeq.actions.overlays import survey, warnings_of
from kubeq.errors import UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "overlay"
    folder.mkdir()
    return folder


def test_files_links_and_directories_are_found_with_their_modes(root: Path) -> None:
    (root / "etc").mkdir(mode=0o700)
    (root / "etc/app.conf").write_text("x")
    (root / "etc/app.conf").chmod(0o640)
    (root / "etc/current").symlink_to("app.conf")
    (root / "empty").mkdir()
    found = {item.path: (item.mode & 0o777, item.target, item.is_file) for item in survey(root)}
    assert found["etc"] == (0o700, None, False)
    assert found["etc/app.conf"] == (0o640, None, True)
    assert found["etc/current"][1:] == ("app.conf", False)
    assert "empty" in found


def test_links_that_lead_out_are_named_together_and_what_they_lead_to_is_not_read(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s")
    (root / "a").symlink_to(secret)
    (root / "d").mkdir()
    (root / "d/b").symlink_to("../../secret/key")
    with pytest.raises(UsageError, match="these links lead out of the directory") as error:
        survey(root)
    assert "'a'" in error.value.message and "'d/b'" in error.value.message


def test_a_link_to_a_directory_inside_is_not_walked_through(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/f").write_text("x")
    (root / "e").symlink_to("d")
    assert [item.path for item in survey(root)] == ["d", "d/f", "e"]


def test_what_is_no_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
        with pytest.raises(UsageError, match=r"neither files nor directories nor links: 'fifo', 'socket'"):
            survey(root)


@pytest.mark.parametrize("name", [b"caf\xe9", b"line\nbreak", b"e\xcc\x81"])
def test_a_name_that_cannot_travel_is_refused(root: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_text("x")
    with pytest.raises(UsageError, match="cannot travel"):
        survey(root)


def test_an_overlay_that_is_none_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="does not exist"):
        survey(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is not a directory"):
        survey(tmp_path / "file")
    with pytest.raises(UsageError, match="kubeq's own state"):
        survey(tmp_path, own=[tmp_path / "state"])


def test_one_that_is_too_large_is_refused_before_it_is_read(root: Path) -> None:
    for name in "abc":
        (root / name).write_text("x")
    with pytest.raises(UsageError, match="more than 2 entries"):
        survey(root, most=2)


def test_bits_that_do_not_travel_are_told(root: Path) -> None:
    (root / "su").write_text("x")
    (root / "su").chmod(0o4755)
    (item,) = survey(root)
    assert item.laid(None).mode == 0o755
    assert "'su'" in warnings_of([item])[0]
