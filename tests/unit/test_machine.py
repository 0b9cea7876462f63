"""Marks of processes: what they claim, and what they never do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kubeq.machine import ProcessMark, count_gpus, has_ended, mark_of, own_mark, whole_machine


def test_a_mark_survives_being_written() -> None:
    assert ProcessMark.parse(str(own_mark())) == own_mark()
    assert own_mark().pid == os.getpid()


def test_what_is_no_mark_is_none() -> None:
    for text in ("", "1", "a.b.c.d", "1.2.3", "1.2.3.4.5"):
        assert ProcessMark.parse(text) is None


def test_a_living_process_has_not_ended_and_a_zombie_has() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    mark = mark_of(process.pid)
    assert mark is not None and not has_ended(mark)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert mark_of(process.pid) is None and has_ended(mark)
    process.communicate()
    assert has_ended(mark)


def test_another_process_with_that_number_is_another() -> None:
    assert has_ended(replace(own_mark(), started=own_mark().started - 1))


def test_whatever_ran_before_the_machine_was_started_has_ended() -> None:
    assert has_ended(replace(own_mark(), boot="another"))


def test_of_another_pid_namespace_nothing_is_claimed() -> None:
    assert not has_ended(replace(own_mark(), namespace="1", started=0))


def test_what_cannot_be_looked_up_is_never_taken_for_dead() -> None:
    program = (
        "import os, resource; from kubeq.errors import BackendError; from kubeq.machine import has_ended, mark_of\n"
        "parent = mark_of(os.getppid())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try:\n"
        "    print(has_ended(parent))\n"
        "except BackendError as error:\n"
        "    print(error.transient, error.message)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"True process {os.getpid()} cannot be read from /proc: Too many open files\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount /proc otherwise")
def test_a_process_that_proc_hides_from_this_user_has_not_ended() -> None:
    program = (
        "import os, sys; from kubeq.machine import ProcessMark, has_ended, own_mark\n"
        "own_mark(), os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "living = ProcessMark.parse(sys.argv[1])\n"
        "print(os.path.exists(f'/proc/{living.pid}'), has_ended(living))"
    )
    hide = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", program, str(own_mark())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_whole_machine_is_what_this_process_may_use() -> None:
    machine = whole_machine()
    assert machine.cpu == len(os.sched_getaffinity(0))
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert machine.memory == int(total.split()[1]) * 1024


def test_the_gpus_are_those_that_the_driver_has(tmp_path: Path) -> None:
    assert count_gpus(tmp_path / "no driver") == 0
    for address in ("0000:00:1e.0", "0000:00:1f.0"):
        (tmp_path / "gpus" / address).mkdir(parents=True)
    assert count_gpus(tmp_path) == 2
