"""Processes die, freeze and come back; nothing is lost, nothing is recorded twice, and nobody has to watch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.homes import Home, eventually

RESULT = "import os, pathlib; pathlib.Path('who').write_text(os.environ['KUBEQ_ATTEMPT'])"


def witness_task(home: Home, seconds: float) -> list[str]:
    """A command that notes its start outside kubeq, and leaves which attempt it was as its output."""
    note = home.root / "witness"
    pids = home.root / "pids"
    pids.mkdir(exist_ok=True)
    script = (
        f"echo $$ > {pids}/$KUBEQ_ATTEMPT; echo $KUBEQ_TASK_INDEX.$KUBEQ_ATTEMPT >> {note};"
        f" sleep {seconds}; echo $KUBEQ_ATTEMPT > who; echo end"
    )
    return ["sh", "-c", script]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def witnessed(home: Home) -> list[str]:
    path = home.root / "witness"
    return path.read_text().split() if path.exists() else []


def test_a_task_whose_agent_is_killed_finishes_elsewhere_once_with_nobody_watching(impatient: Home) -> None:
    home = impatient
    job = home.submit("--image", "none", *witness_task(home, 4))
    eventually(lambda: witnessed(home) == ["1.1"], "the task runs", home)
    (victim,) = home.agents().values()
    home.run("addnodes", "1", job)
    eventually(lambda: len(home.agents()) == 2, "a second agent is there", home)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: "1.2" in witnessed(home), "the other agent takes over", home)
    first = int((home.root / "pids/1").read_text())
    assert not alive(first), "the first attempt still ran when the second one started"
    eventually(lambda: home.stands(job) == "succeeded", "it finishes elsewhere", home)
    (task,) = home.tasks(job)
    assert (task["attempt"], task["losses"], task["failures"]) == (2, 1, 0)
    assert Counter(witnessed(home)) == {"1.1": 1, "1.2": 1}
    home.run("fetch", job, "out")
    assert (home.cwd / "out/1/who").read_text() == "2\n"


def test_an_agent_frozen_past_its_lease_is_refused_and_spoils_nothing(impatient: Home) -> None:
    home = impatient
    job = home.submit("--image", "none", *witness_task(home, 6))
    eventually(lambda: witnessed(home) == ["1.1"], "the task runs", home)
    (zombie,) = home.agents().values()
    home.run("addnodes", "1", job)
    eventually(lambda: len(home.agents()) == 2, "a second agent is there", home)
    os.kill(zombie, signal.SIGSTOP)
    eventually(lambda: "1.2" in witnessed(home), "the other agent takes over", home)
    eventually(lambda: home.stands(job) == "succeeded", "the second attempt ends", home)
    home.run("fetch", job, "before")
    os.kill(zombie, signal.SIGCONT)
    eventually(
        lambda: any("superseded" in path.read_text() for path in home.state.glob("nodes/*/agent.log")),
        "the zombie learns that it was superseded",
        home,
    )
    (task,) = home.tasks(job)
    assert (task["state"], task["attempt"]) == ("succeeded", 2)
    home.run("fetch", job, "after")
    for folder in ("before", "after"):
        assert (home.cwd / folder / "1/who").read_text() == "2\n"
        assert (home.cwd / folder / "1/stdout.txt").read_text() == "end\n"


def test_sixteen_agents_execute_each_of_a_thousand_tasks_exactly_once(home: Home) -> None:
    note = home.root / "witness"
    job = home.submit(
        "--prepare", "--image", "none", "-r", "cpu=0.05", "--seq", "1000", "sh", "-c", f"echo {{index}} >> {note}"
    )
    home.run("addnodes", "16", job)
    eventually(lambda: home.stands(job) == "succeeded", "all is done", home, timeout=240)
    counts = Counter(note.read_text().split())
    assert len(counts) == 1000
    assert set(counts.values()) == {1}
    assert {task["attempt"] for task in home.tasks(job)} == {1}
    assert len({task["node"] for task in home.tasks(job)}) > 1, "one agent did it all: the test saw no contention"


@pytest.mark.parametrize("seed", range(8))
def test_a_submission_killed_at_any_instant_can_be_completed_or_cleaned(home: Home, seed: int) -> None:
    (home.cwd / "in").mkdir()
    for number in range(20):
        (home.cwd / f"in/{number}").write_text(f"{number}" * 1000)
    pick = random.Random(seed)
    sub = home.start("-q", "sub", "--no-wait", "--image", "none", "-u", "in", "--seq", "20000", "true", "{index}")
    time.sleep(0.2 + pick.random() * 0.8)
    sub.kill()
    out, _ = sub.communicate()
    jobs = home.json("status")["jobs"]
    if out.strip():
        assert [job["id"] for job in jobs] == [out.strip()]
    for job in jobs:
        if job["status"] == "incomplete":
            assert job["tasks"]["claimed"] == 0
            assert not home.agents()
            if seed % 2:
                home.run("resume", job["id"])
                assert home.status(job["id"])["total"] == 20000
                assert home.status(job["id"])["status"] in ("queued", "running")
                home.run("kill", job["id"])
        else:
            assert job["total"] == 20000
            home.run("kill", job["id"])
    home.run("-y", "clean", "--force")
    assert home.json("status")["jobs"] == []


def test_a_queue_out_of_reach_costs_time_and_no_work(impatient: Home) -> None:
    home = impatient
    job = home.submit("--image", "none", *witness_task(home, 2))
    eventually(lambda: witnessed(home) == ["1.1"], "the task runs", home)
    queue = home.state / "queue.db"
    lock = Path(f"{queue}.lock")
    holder = subprocess.Popen(["flock", "--no-fork", str(lock), "sleep", "60"])
    eventually(lambda: list(home.state.glob("nodes/*/spool/*.json")), "the outcome waits on disk", home)
    holder.kill()
    holder.wait()
    eventually(lambda: home.stands(job) == "succeeded", "the outcome is delivered late", home)
    (task,) = home.tasks(job)
    assert task["attempt"] == 1
    assert witnessed(home) == ["1.1"]


def test_a_terminated_agent_gives_its_work_back_at_no_cost(home: Home) -> None:
    job = home.submit("--image", "none", *witness_task(home, 3))
    eventually(lambda: witnessed(home) == ["1.1"], "the task runs", home)
    (first,) = home.agents().values()
    os.kill(first, signal.SIGTERM)
    eventually(lambda: first not in home.agents().values(), "the agent has left", home, timeout=30)
    (task,) = home.tasks(job)
    assert (task["state"], task["losses"], task["failures"]) == ("pending", 0, 0)
    home.run("addnodes", "1", job)
    eventually(lambda: home.stands(job) == "succeeded", "the next agent runs it", home)
    assert witnessed(home) == ["1.1", "1.2"]


def test_a_poison_task_fails_by_its_own_limit(home: Home) -> None:
    home.env["KUBEQ_LEASE"] = "2"
    home.env["KUBEQ_LOSS_LIMIT"] = "1"
    script = "kill -9 $PPID; sleep 30"
    job = home.submit("--image", "none", "sh", "-c", script)

    def ended() -> bool:
        if not home.agents():
            home.run("addnodes", "1", job)
        return bool(home.status(job)["status"] == "failed")

    eventually(ended, "the task fails as lost", home, timeout=120)
    (task,) = home.tasks(job)
    assert (task["reason"], task["losses"]) == ("lost", 1)


def test_the_log_of_an_agent_is_json_lines(home: Home) -> None:
    home.run("sub", "--image", "none", "true")
    (log,) = home.state.glob("nodes/*/agent.log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"at", "level", "message"} <= lines[0].keys()


def test_a_job_whose_only_agent_died_can_be_killed_at_once_and_nothing_of_it_runs_on(home: Home) -> None:
    job = home.submit("--image", "none", *witness_task(home, 60))
    eventually(lambda: witnessed(home) == ["1.1"], "the task runs", home)
    (victim,) = home.agents().values()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not home.agents(), "its agent is dead", home)
    home.run("kill", job)
    assert home.status(job)["status"] == "cancelled"
    first = int((home.root / "pids/1").read_text())
    eventually(lambda: not alive(first), "what it left running is stopped by the next agent", home, timeout=30)


def test_whoever_waits_for_a_job_sees_its_dead_agent_replaced_without_waiting_for_the_lease(home: Home) -> None:
    waiting = home.start("sub", "--image", "none", *witness_task(home, 2))
    eventually(lambda: witnessed(home) == ["1.1"], "the task runs", home)
    (victim,) = home.agents().values()
    os.kill(victim, signal.SIGKILL)
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    (task,) = home.tasks("LAST")
    assert (task["state"], task["attempt"], task["losses"]) == ("succeeded", 2, 1)
