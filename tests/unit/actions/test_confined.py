"""What lies under a temporary name in a result directory goes with its writer, and never before."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from kubeq.actions.confined import PART, open_confined
from kubeq.core.digest import Digest
from kubeq.machine import mark_of, own_mark


def left_after_opening(folder: Path, *names: str) -> set[str]:
    """Which of those temporary names are still there once somebody has opened the directory."""
    part = folder / PART
    part.mkdir(parents=True)
    for name in names:
        (part / name).write_bytes(b"half of a fi")
    with open_confined(folder):
        return {path.name for path in part.iterdir()}


def test_what_a_dead_writer_left_goes_even_if_its_pid_is_another_process_now(tmp_path: Path) -> None:
    stranger = replace(own_mark(), started=own_mark().started - 1)
    before_the_boot = replace(own_mark(), boot="another-boot")
    assert left_after_opening(tmp_path, f"{stranger}-0", f"{before_the_boot}-12", f"{os.getppid()}-3") == set()


def test_what_a_living_writer_writes_stays_and_so_does_what_is_not_ours(tmp_path: Path) -> None:
    sibling = subprocess.Popen(["sleep", "300"])
    writing = f"{mark_of(sibling.pid)}-7"
    assert left_after_opening(tmp_path, writing, f"{own_mark()}-0", "notes.txt") == {
        writing,
        f"{own_mark()}-0",
        "notes.txt",
    }
    sibling.kill()
    sibling.wait()


def test_a_file_is_written_under_its_writers_mark(tmp_path: Path) -> None:
    class Looking(BytesIO):
        names: list[str] = []

        def read(self, size: int | None = -1, /) -> bytes:
            self.names += [path.name for path in (tmp_path / PART).iterdir()]
            return super().read(size)

    source = Looking(b"bytes")
    with open_confined(tmp_path) as confined, confined.walk() as walk:
        walk.write(("a", "b"), source, Digest.of(b"bytes"))
    assert set(source.names) == {f"{own_mark()}-0"}
    assert (tmp_path / "a" / "b").read_bytes() == b"bytes"
    assert not (tmp_path / PART).exists()
