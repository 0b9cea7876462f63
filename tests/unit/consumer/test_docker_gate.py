from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from kubeq.errors import BackendError
from kubeq_consumer.runtimes.docker_gate import Gate, can_have_gates


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


HERE = {"KernelVersion": platform.release(), "DefaultRuntime": "runc"}


def test_whoever_waits_gets_one_byte_when_the_gate_is_opened_and_its_end_when_it_is_closed(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate").make()
    waiting = os.open(gate.path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(waiting, 1)
    gate.open()
    assert os.read(waiting, 9) == b"\n"
    gate.close()
    assert os.read(waiting, 1) == b""
    os.close(waiting)


def test_a_gate_that_was_opened_before_anybody_came_is_open(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate").make()
    gate.open()
    waiting = os.open(gate.path, os.O_RDONLY)
    assert os.read(waiting, 1) == b"\n"
    os.close(waiting)
    gate.close()


def test_nothing_is_left_of_a_gate_that_was_closed(tmp_path: Path) -> None:
    before = descriptors()
    gate = Gate(tmp_path / "gate").make()
    assert oct(gate.path.stat().st_mode & 0o777) == "0o644", "every user may wait at it"
    gate.close()
    gate.close()
    gate.open()
    assert list(tmp_path.iterdir()) == [] and descriptors() == before


def test_a_gate_that_cannot_be_made_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no-such") as told:
        Gate(tmp_path / "no-such" / "gate").make()
    assert told.value.transient


@pytest.mark.parametrize(
    ("state", "can"),
    [
        (HERE, True),
        (HERE | {"DefaultRuntime": "crun"}, True),
        (HERE | {"DefaultRuntime": "runsc"}, False),
        (HERE | {"DefaultRuntime": "kata-runtime"}, False),
        (HERE | {"KernelVersion": "6.6.12-linuxkit"}, False),
        ({}, False),
    ],
)
def test_gates_are_for_containers_on_this_kernel(state: dict[str, str], can: bool) -> None:
    assert can_have_gates(state) is can
