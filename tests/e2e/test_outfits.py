"""Nodes that are made ready before their first attempt and cleared after their last one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.homes import Home, eventually


def test_every_node_runs_pre_once_before_its_first_attempt_and_post_once_after_its_last(home: Home) -> None:
    log = home.root / "log"
    words = ["--pre", f"echo pre $KUBEQ_NODE_NAME >> {log}", "--post", f"echo post $KUBEQ_NODE_NAME >> {log}"]
    home.run("sub", *words, "--image", "none", "--seq", "5", "sh", "-c", f"echo task {{index}} >> {log}")
    (node,) = {task["node"] for task in home.tasks("LAST")}
    eventually(lambda: not home.agents(), "the idle node leaves", home)
    lines = log.read_text().splitlines()
    assert (lines[0], lines[-1]) == (f"pre {node}", f"post {node}")
    assert sorted(lines[1:-1]) == [f"task {n}" for n in range(1, 6)]
    assert "the --pre command has ended well" in home.run("logs", node).stdout


def test_what_it_prints_can_be_followed_in_the_nodes_log_while_it_runs(home: Home) -> None:
    go = home.root / "go"
    job = home.submit("--pre", f"echo unpacking; until [ -e {go} ]; do sleep 0.1; done", "--image", "none", "true")
    (node,) = home.agents()
    eventually(lambda: "pre: unpacking" in home.run("logs", node, code=None).stdout, "its line is in the log", home)
    assert home.json("nodes", job)["nodes"][0]["state"] == "starting"
    assert home.status(job)["because"] == "its node is starting"
    go.touch()
    eventually(lambda: home.stands(job) == "succeeded", "the job goes on", home)


def test_a_pool_that_cannot_be_made_ready_is_given_up_after_a_few_nodes_with_the_reason(home: Home) -> None:
    done = home.run("sub", "--pre", "echo no such package; exit 9", "--image", "none", "true", code=6)
    assert done.stderr.count("has left: its --pre command failed: exit code 9: no such package") >= 3
    assert "no node of job" in done.stderr and "kubeq resume" in done.stderr
    nodes = home.json("nodes", "--all", "LAST")["nodes"]
    assert len(nodes) == 4
    assert {node["reason"] for node in nodes} == {"setup"}
    (task,) = home.tasks("LAST")
    assert (task["state"], task["attempt"]) == ("pending", 0)


def test_a_node_that_is_asked_to_leave_gives_back_what_runs_and_runs_post(home: Home) -> None:
    log = home.root / "log"
    job = home.submit("--pre", f"echo pre > {log}", "--post", f"echo post >> {log}", "--image", "none", "sleep", "60")
    eventually(lambda: home.stands(job) == "running", "it runs", home)
    (pid,) = home.agents().values()
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not home.agents(), "the node has left", home)
    assert log.read_text() == "pre\npost\n"
    assert home.tasks(job)[0]["state"] == "pending"


def test_jobs_with_another_pre_have_nodes_of_their_own(home: Home) -> None:
    home.env["KUBEQ_LINGER"] = "90"  # so that the first one's is still there for the third
    first = home.submit("--pre", "true", "--image", "none", "true")
    second = home.submit("--pre", "echo other", "--image", "none", "true")
    third = home.submit("--pre", "true", "--image", "none", "true")
    for job in (first, second, third):
        eventually(lambda job=job: home.stands(job) == "succeeded", "it succeeds", home)  # type: ignore[misc]
    nodes = {job: home.tasks(job)[0]["node"] for job in (first, second, third)}
    assert nodes[first] == nodes[third] != nodes[second]


def test_an_overlay_lies_on_the_node_before_its_first_task(home: Home) -> None:
    # An agent of root lays it below /, one of somebody else below its home: here that is the home of this test.
    place = home.root / "laid"
    below = place.relative_to("/") if os.geteuid() == 0 else Path("laid")
    (home.cwd / "overlay" / below).mkdir(parents=True)
    (home.cwd / "overlay" / below / "run").write_text("#!/bin/sh\necho from the overlay\n")
    (home.cwd / "overlay" / below / "run").chmod(0o750)
    done = home.run(
        "sub", "--local", "--overlay", "overlay", "--pre", f"test -x {place}/run", "--image", "none", f"{place}/run"
    )
    assert done.stdout == "from the overlay\n"
    assert (place / "run").stat().st_mode & 0o777 == 0o750
