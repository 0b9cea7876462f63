from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable

from kubeq_consumer.runtimes.cgroup import Reading
from kubeq_consumer.runtimes.sampler import Sampler, Watch

PATIENCE_S = 30


def eventually(holds: Callable[[], bool]) -> None:
    deadline, tick = time.monotonic() + PATIENCE_S, threading.Event()
    while not holds():
        assert time.monotonic() < deadline
        tick.wait(0.005)


def test_a_watch_is_looked_at_until_it_is_over() -> None:
    looks: list[float] = []

    def look() -> Reading:
        looks.append(time.monotonic())
        return Reading(cpu_s=float(len(looks)))

    sampler, watch = Sampler(), Watch(look, lambda: None)
    sampler.add(watch)
    eventually(lambda: len(looks) >= 4)
    watch.end()
    assert watch.reading.cpu_s == float(len(looks))


def test_the_end_of_a_process_is_seen_at_once() -> None:
    process = subprocess.Popen(["sleep", "300"])
    ended = threading.Event()
    looks: list[bool] = []

    def look() -> Reading:
        looks.append(ended.is_set())
        return Reading(cpu_s=1.0)

    watch = Watch(look, lambda: None if ended.is_set() else process.pid)
    Sampler(longest_s=60.0).add(watch)
    eventually(lambda: len(looks) >= 8)  # by now more than a second lies between two looks
    before = len(looks)
    ended.set()
    process.kill()
    began = time.monotonic()
    eventually(lambda: len(looks) > before)
    assert time.monotonic() - began < 1.1
    process.wait()
    watch.end()


def test_a_sampler_with_nothing_left_to_watch_can_be_given_more() -> None:
    sampler = Sampler()
    for _ in range(3):
        watch = Watch(lambda: Reading(cpu_s=1.0), lambda: None)
        sampler.add(watch)
        eventually(lambda watch=watch: watch.reading.cpu_s == 1.0)  # type: ignore[misc]
        watch.end()
        eventually(lambda: "kubeq-sampler" not in {thread.name for thread in threading.enumerate()})


def test_figures_that_are_not_there_yet_are_looked_for_again() -> None:
    looks: list[Reading | None] = [None, None, None, Reading(cpu_s=2.0)]
    watch = Watch(lambda: looks.pop(0) if len(looks) > 1 else looks[0], lambda: None)
    Sampler().add(watch)
    eventually(lambda: watch.reading.cpu_s == 2.0)
    watch.end()


def test_a_command_is_quiet_when_its_last_process_has_ended_and_not_before() -> None:
    processes = [subprocess.Popen(["sleep", "300"]) for _ in range(3)]

    def first() -> int | None:
        return next((process.pid for process in processes if process.poll() is None), None)

    watch = Watch(lambda: Reading(cpu_s=1.0), first)
    Sampler(longest_s=60.0).add(watch)
    for process in processes:
        assert not watch.quiet.wait(0.1)
        process.kill()
        process.wait()
    assert watch.quiet.wait(PATIENCE_S)
    watch.end()


def test_the_last_look_comes_before_a_command_is_quiet() -> None:
    process = subprocess.Popen(["sleep", "300"])

    def look() -> Reading:
        return Reading(oom_kills=0 if process.poll() is None else 1)

    watch = Watch(look, lambda: process.pid if process.poll() is None else None)
    Sampler(longest_s=60.0).add(watch)
    eventually(lambda: watch.begun)
    process.kill()
    assert watch.quiet.wait(PATIENCE_S)
    assert watch.reading.oom_kills == 1
    watch.end()


def test_a_command_whose_processes_cannot_be_seen_is_quiet_only_when_it_is_said_to_have_ended() -> None:
    for answer in (0, None):  # of another pid namespace; not there yet
        watch = Watch(lambda: Reading(cpu_s=1.0), lambda answer=answer: answer)  # type: ignore[misc]
        Sampler(longest_s=0.01).add(watch)
        assert not watch.quiet.wait(0.2)
        watch.end()
        assert watch.quiet.is_set()
