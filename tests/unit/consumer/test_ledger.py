"""Agents on one machine never give away more than it has, whoever dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubeq.core.resources import Resources
from kubeq.errors import BackendError
from kubeq_consumer.ledger import Ledger

TWO = Resources(cpu=2.0, memory=1000)
ONE = Resources(cpu=1.0, memory=400)


def test_what_one_agent_holds_another_cannot_have(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "l", TWO), Ledger(tmp_path / "l", TWO)
    assert one.reserve("a", ONE)
    assert other.reserve("b", ONE)
    assert not one.reserve("c", ONE)
    one.release("a")
    assert one.reserve("c", ONE)


def test_memory_counts_as_cpu_does(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l", TWO)
    assert ledger.reserve("a", Resources(cpu=0.1, memory=900))
    assert not ledger.reserve("b", Resources(cpu=0.1, memory=200))
    assert ledger.reserve("c", Resources(cpu=0.4))
    assert ledger.free() == Resources(cpu=1.5, memory=100)


def test_what_a_dead_agent_held_is_free_again(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from kubeq_consumer.ledger import Ledger;"
        "from kubeq.core.resources import Resources;"
        "assert Ledger(Path(sys.argv[1]), Resources(cpu=2.0, memory=1000)).reserve('x', Resources(cpu=2.0))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "l")], check=True, env=environment)
    assert len(json.loads((tmp_path / "l").read_text())) == 1
    assert Ledger(tmp_path / "l", TWO).reserve("a", Resources(cpu=2.0))


def test_a_ledger_cut_short_by_a_crash_is_whole_again_after_the_next_write(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path / "l", TWO), Ledger(tmp_path / "l", TWO)
    assert ledger.reserve("a", ONE)
    whole = (tmp_path / "l").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "l").write_bytes(whole[:length])
        assert ledger.free() == Resources(cpu=1.0, memory=600), "an agent never forgets what it has given itself"
    assert ledger.reserve("b", Resources(cpu=0.5))
    assert other.free() == Resources(cpu=0.5, memory=600)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"slot ledger .* cannot be used"):
        Ledger(tmp_path / "file" / "l", TWO).free()


def test_each_holder_has_gpus_of_its_own(tmp_path: Path) -> None:
    total, need = Resources(cpu=4.0, gpus=3), Resources(cpu=0.5, gpus=1)
    one, other = Ledger(tmp_path / "l", total), Ledger(tmp_path / "l", total)
    assert one.reserve("a", need) and other.reserve("b", need) and one.reserve("c", need)
    assert (one.devices("a"), other.devices("b"), one.devices("c")) == ((0,), (1,), (2,))
    assert not other.reserve("d", need), "all are taken"
    one.release("a")
    assert one.devices("a") == ()
    assert other.reserve("d", need)
    assert other.devices("d") == (0,)
