"""A bad node leaves; a bad task takes no node with it."""

from __future__ import annotations

from tests.homes import Home


def test_a_node_on_which_everything_fails_leaves_and_the_others_do_the_work(home: Home) -> None:
    script = "case $KUBEQ_NODE_NAME in *-1) echo no scratch disk; exit 7;; esac; sleep 0.2"
    job = home.submit("--strikes", "3", "--retries", "20", "--image", "none", "--seq", "30", "sh", "-c", script)
    home.run("addnodes", "1", job)
    watch = home.run("watch", job)
    nodes = {node["number"]: node for node in home.json("nodes", "--all", job)["nodes"]}
    assert (nodes[1]["state"], nodes[1]["reason"]) == ("gone", "strikes")
    assert "in a row of job" in nodes[1]["because"] and "exit code 7" in nodes[1]["because"]
    assert "has left" in watch.stderr and home.status(job)["status"] == "succeeded"
    assert {task["node"] for task in home.tasks(job)} == {nodes[2]["name"]}


def test_a_poison_task_fails_by_its_own_limit_and_no_pool_goes_down_with_it(home: Home) -> None:
    home.env["KUBEQ_LINGER"] = home.env["KUBEQ_LINGER_OTHERS"] = "90"
    job = home.submit(
        "--strikes", "1", "--retries", "3", "--image", "none", "--seq", "40", "sh", "-c", "sleep 0.1; test {index} != 5"
    )
    home.run("addnodes", "2", job)
    home.run("watch", job, code=3)
    tasks = {task["index"]: task for task in home.tasks(job)}
    assert (tasks[5]["state"], tasks[5]["failures"]) == ("failed", 4)
    assert {task["state"] for index, task in tasks.items() if index != 5} == {"succeeded"}
    gone = [node for node in home.json("nodes", "--all", job)["nodes"] if node["reason"] == "strikes"]
    assert len(gone) <= 1
    assert len(home.agents()) >= 1, "somebody of the pool is still there"
