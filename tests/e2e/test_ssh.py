"""Jobs on real hosts over SSH: nothing but sshd there, and Python or Docker; and what can befall them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.homes import Home, eventually
from tests.stand_ins.ssh_hosts import Host

pytestmark = pytest.mark.docker


@pytest.fixture
def home(user: Home) -> Home:
    """The home of somebody whose key the hosts know."""
    return user


def names(hosts: list[Host]) -> str:
    return ",".join(host.address for host in hosts)


def test_lines_from_a_pipe_run_on_the_hosts_and_come_back_in_order(home: Home, hosts: list[Host]) -> None:
    words = ["sub", "--stdin", "--image", "none", "--hosts", names(hosts), "--fetch", "out", "echo", "executed:"]
    lines = "".join(f"{number}\n" for number in range(1, 11))
    run = [sys.executable, "-m", "kubeq", *words]
    done = subprocess.run(run, cwd=home.cwd, env=home.env, input=lines, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(home.cwd / f"out/{number}/stdout.txt").read_text() for number in range(1, 11)] == [
        f"executed: {number}\n" for number in range(1, 11)
    ]
    nodes = {task["node"] for task in home.tasks("LAST")}
    assert len(nodes) >= 1


def test_inputs_travel_and_outputs_come_back_through_the_relay(home: Home, hosts: list[Host]) -> None:
    (home.cwd / "double.py").write_text("import sys; open('twice', 'w').write(open('number').read() * 2)\n")
    (home.cwd / "number").write_text("21\n")
    home.run(
        "sub", "--image", "none", "--hosts", hosts[0].address, "-u", "number", "--fetch", "out", "python3", "^double.py"
    )
    assert (home.cwd / "out/1/twice").read_text() == "21\n21\n"
    assert hosts[0].run("sh", "-c", "find / -xdev -name '*.db' -path '*kubeq*' 2>/dev/null").strip() == ""


def test_a_node_is_made_ready_and_cleared_on_its_host(home: Home, hosts: list[Host]) -> None:
    around = ["--pre", "echo ready > ~/ready", "--post", "mv ~/ready ~/cleared"]
    home.run("sub", "--image", "none", "--hosts", hosts[1].address, *around, "--shell", "cat ~/ready")
    assert home.run("logs", "LAST/1").stdout == "ready\n"
    eventually(lambda: "cleared" in hosts[1].run("ls", "/home/ada").split(), "the node has left", home)
    assert "ready" not in hosts[1].run("ls", "/home/ada").split()
    hosts[1].run("rm", "/home/ada/cleared")


def test_a_dropped_connection_ends_no_task(home: Home, hosts: list[Host]) -> None:
    job = home.submit(
        "--image", "none", "--hosts", hosts[0].address, "--shell", "until [ -e ~/go ]; do sleep 0.2; done"
    )
    eventually(lambda: home.stands(job) == "running", "it runs", home)
    hosts[0].drop_connections()
    hosts[0].run("touch", "/home/ada/go")
    home.run("watch", job)
    hosts[0].run("rm", "/home/ada/go")
    assert home.tasks(job)[0]["attempt"] == 1


def test_hosts_are_checked_one_by_one(home: Home, hosts: list[Host]) -> None:
    file = home.cwd / "hosts.txt"
    file.write_text(
        f"{hosts[0].address} name=good label=rack=b\nno-such-host.invalid\nbob@{hosts[1].address} name=bob\n"
    )
    ran = home.run("--json", "hosts", "hosts.txt", code=6)
    good, gone, bob = json.loads(ran.stdout)["hosts"]
    assert (good["python"], good["docker"], good["problem"], good["labels"]) == ("3.11", None, None, {"rack": "b"})
    assert "there is no host" in gone["problem"]
    assert "accepts none of our keys" in bob["problem"]


def test_a_host_that_cannot_be_used_is_told_in_a_line_and_the_others_go_on(home: Home, hosts: list[Host]) -> None:
    ran = home.run(
        "sub", "--image", "none", "--hosts", f"no-such-host.invalid,{hosts[0].address}", "--seq", "4", "true"
    )
    assert ran.stderr.count("there is no host 'no-such-host.invalid'") == 1


def test_containers_are_not_waited_for_where_no_host_has_docker(home: Home, hosts: list[Host]) -> None:
    image = f"python@sha256:{'ab' * 32}"
    ran = home.run("sub", "--image", image, "--hosts", names(hosts[:2]), "--seq", "2", "true", code=6)
    for host in hosts[:2]:
        assert f"{host.address}: Docker, in which the tasks are to run, is not installed there" in ran.stderr
    (job,) = home.json("status")["jobs"]
    assert (
        job["status"] == "queued" and f"hint: the job is stored: mend that, then kubeq resume {job['id']}" in ran.stderr
    )


def test_a_package_is_started_on_its_host_which_can_see_nothing_of_this_machine(home: Home, hosts: list[Host]) -> None:
    (home.cwd / "web").mkdir()
    (home.cwd / "web/kubeq-launch").write_text("echo up on $(hostname) > ~/up; cat ~/up; exec sleep 60\n")
    job = home.submit("--image", "none", "--hosts", hosts[2].address, "sleep", "60")
    eventually(lambda: home.stands(job) == "running", "it runs", home)
    (node,) = home.json("inject", "web", job)["nodes"]
    eventually(
        lambda: hosts[2].run("sh", "-c", "cat ~ada/up 2>/dev/null; :") == f"up on {hosts[2].name}\n", "it runs", home
    )
    eventually(lambda: f"web: up on {hosts[2].name}" in home.run("logs", node, code=None).stdout, "its log tells", home)
    home.run("kill", job)
    home.run("nodes", "--stop", node)
    hosts[2].run("rm", "/home/ada/up")


def test_connect_and_cp_reach_the_host(home: Home, hosts: list[Host]) -> None:
    job = home.submit("--image", "none", "--hosts", hosts[1].address, "sleep", "60")
    eventually(lambda: home.stands(job) == "running", "it runs", home)
    node = home.tasks(job)[0]["node"]
    assert home.run("connect", node, "hostname").stdout.strip() == hosts[1].name
    (home.cwd / "there").write_text("x" * 100_000)
    home.run("cp", "there", f"{node}:back")
    home.run("cp", "all:back", "got")
    assert (home.cwd / "got" / node / "back").read_text() == "x" * 100_000
    home.run("kill", job)


def test_a_host_joins_the_pool_of_a_job_that_runs_and_leaves_it_when_what_it_runs_has_ended(
    home: Home, hosts: list[Host]
) -> None:
    for number in (0, 1):
        (home.cwd / f"host{number}").write_text(f"{hosts[number].address} name={hosts[number].name} slots=1\n")
    script = "touch ~/at-{index}; until [ -e ~/go ]; do sleep 0.1; done; rm ~/at-{index} ~/go"
    job = home.submit("--image", "none", "--hosts", "./host0", "--seq", "2", "--shell", script)
    eventually(lambda: "at-1" in hosts[0].run("ls", "/home/ada"), "the only host runs one", home)
    (new,) = home.json("addnodes", "1", "--hosts", "./host1", job)["nodes"]
    eventually(lambda: "at-2" in hosts[1].run("ls", "/home/ada"), "the new one runs the other", home)
    lowered = home.json("addnodes", "--to", "1", job)
    assert (lowered["ended"], lowered["leaving"] + lowered["finishing"]) == ([], [new])
    for host in hosts[:2]:
        host.run("touch", "/home/ada/go")
    eventually(lambda: home.stands(job) == "succeeded", "both end well", home)
    tasks = {(task["node"] == new, task["state"], task["attempt"]) for task in home.tasks(job)}
    assert tasks == {(False, "succeeded", 1), (True, "succeeded", 1)}
