"""Submitting by the real command line, with whoever reads its output gone, and names, files and interrupts in play."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.homes import Home, eventually


def sub_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kubeq", "sub", "--image", "none", *arguments]


def unread() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
@pytest.mark.parametrize("wait", ["--no-wait", None])
def test_a_job_runs_to_its_end_although_nobody_reads_what_sub_prints(home: Home, closed: str, wait: str | None) -> None:
    pipe = unread()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {closed: pipe}
    words = sub_command(*([wait] if wait else []), "--seq", "3", "sh", "-c", "echo {index}; exit 0")
    done = subprocess.run(
        words, cwd=home.cwd, env=home.env, stdin=subprocess.DEVNULL, timeout=120, text=True, **streams
    )  # type: ignore[call-overload]
    os.close(pipe)
    assert done.returncode == 0
    assert "Traceback" not in (done.stderr or "") + (done.stdout or "")
    (job,) = home.json("status")["jobs"]
    eventually(lambda: home.stands(job["id"]) == "succeeded", "the job succeeds", home)


def test_the_exit_code_is_the_jobs_although_nobody_reads_its_tasks_output(home: Home) -> None:
    pipe = unread()
    done = subprocess.run(
        sub_command("--local", "--seq", "20", "sh", "-c", "echo {index}; exit 4"),
        cwd=home.cwd, env=home.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.PIPE, timeout=120,
    )  # fmt: skip
    os.close(pipe)
    assert done.returncode == 3
    assert home.status("LAST")["tasks"]["failed"] == 20


def test_closed_streams_are_not_mistaken_for_files(home: Home) -> None:
    words = " ".join(sub_command("-q", "--no-wait", "true"))
    done = subprocess.run(["sh", "-c", f"{words} <&- 2>&-"], cwd=home.cwd, env=home.env, capture_output=True, text=True)
    assert done.returncode == 0
    job = done.stdout.strip()
    eventually(lambda: home.stands(job) == "succeeded", "the job succeeds", home)


def test_results_are_fetched_after_the_end_also_those_of_a_job_with_failures(home: Home) -> None:
    script = "echo {index} > out.txt; test {index} != 2"
    home.run("sub", "--image", "none", "--fetch", "got", "--seq", "3", "sh", "-c", script, code=3)
    assert [(home.cwd / f"got/{n}/out.txt").read_text() for n in (1, 2, 3)] == ["1\n", "2\n", "3\n"]


def test_an_equal_job_under_way_is_followed_and_not_submitted_again(home: Home) -> None:
    words = ("sub", "--image", "none", "-n", "slow", "sh", "-c", "sleep 8; echo end")
    first = home.submit(*words[1:])
    again = home.json(*words)
    assert (again["job"], again["created"], again["status"]) == (first, False, "succeeded")
    assert len(home.json("status")["jobs"]) == 1


def test_an_interrupt_before_the_seal_says_what_is_left_and_resume_completes_it(home: Home) -> None:
    waiting = home.start("sub", "--image", "none", "--no-wait", "--seq", "100000", "true", "{index}")
    assert waiting.stderr is not None
    begun = next(line for line in waiting.stderr if line.startswith("submitting"))
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    job = begun.split(" as ")[1].split(":")[0]
    if waiting.returncode == 0:
        pytest.skip("this machine submits 100,000 tasks faster than a signal arrives")
    assert waiting.returncode == 130
    assert f"kubeq resume {job}" in err
    jobs = home.json("status")["jobs"]
    if jobs:
        assert jobs[0]["status"] == "incomplete"
        home.run("resume", job)
        assert home.status(job)["total"] == 100_000
        home.run("kill", job)
