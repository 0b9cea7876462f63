"""What an archive does on the node before the agent runs: there once, whole, and nobody else's."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from kubeq.nodes.unpacking import STALE_S, unpack


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.pyz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("package/module.py", "print('hello')\n")
    return path


def test_it_is_unpacked_once_and_again_where_it_was_damaged(archive: Path, tmp_path: Path) -> None:
    module = tmp_path / "agents/abc/package/module.py"
    unpack(archive, tmp_path / "agents/abc")
    made = module.stat().st_ino
    unpack(archive, tmp_path / "agents/abc")
    assert module.stat().st_ino == made
    module.write_text("print('other')\n")
    unpack(archive, tmp_path / "agents/abc")
    assert module.read_text() == "print('hello')\n"
    assert [path.name for path in (tmp_path / "agents").iterdir()] == ["abc"]


def test_what_starts_that_were_killed_have_left_goes_after_a_day(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    for name in (".half-unpacked", ".just-begun"):
        (folder / name).mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    (folder / ".half-fetched").write_bytes(b"PK")
    then = time.time() - STALE_S - 60
    for name in (".half-unpacked", ".half-fetched"):
        os.utime(folder / name, (then, then))
    unpack(archive, folder / "abc")
    assert sorted(path.name for path in folder.iterdir()) == [".just-begun", "abc"]


def test_a_folder_that_others_may_write_is_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents").chmod(0o777)
    with pytest.raises(PermissionError, match="does not belong to the agent's user alone"):
        unpack(archive, tmp_path / "agents/abc")
