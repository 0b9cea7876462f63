"""Many tasks on hosts of which one dies; several people on one host; a submitter that dies with all; a full disk."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import pytest

from tests.e2e.ssh import keys_on, leave, one_slot_each, ssh_home
from tests.homes import Home, eventually
from tests.stand_ins.ssh_hosts import Host, ssh_hosts

pytestmark = pytest.mark.docker
TASKS = 300


def test_of_three_hundred_tasks_none_is_lost_and_none_recorded_twice_when_a_host_is_killed(
    tmp_path: Path, hosts: list[Host]
) -> None:
    log = f"/home/ada/ran-{secrets.token_hex(4)}"
    with ssh_home(tmp_path / "home", hosts, KUBEQ_LEASE="5") as home:
        (home.cwd / "hosts.txt").write_text("".join(f"{host.address} name={host.name} slots=2\n" for host in hosts))
        command = f"echo {{index}} $KUBEQ_ATTEMPT >> {log}; echo {{index}}; echo $KUBEQ_ATTEMPT > attempt; sleep 0.1"
        running = home.start(
            *("sub", "--hosts", "hosts.txt", "--seq", str(TASKS), "--fetch", "out", "--shell", command)
        )
        dying = hosts[0]
        eventually(lambda: len(ran_on(dying, log)) > 10, "it has run some", home)
        dying.power_off()
        try:
            out, err = running.communicate(timeout=180)
            assert running.returncode == 0, out + err
            assert home.status("LAST")["tasks"]["succeeded"] == TASKS
        finally:
            dying.power_on()
        tasks = home.tasks("LAST")
        assert [task["index"] for task in tasks] == list(range(1, TASKS + 1))
        for task in tasks:
            result = home.cwd / "out" / str(task["index"])
            assert (result / "stdout.txt").read_text() == f"{task['index']}\n"
            assert (result / "attempt").read_text() == f"{task['attempt']}\n", "it is the recorded attempt's"
        ran = [pair for host in hosts for pair in ran_on(host, log)]
        assert len(ran) == len(set(ran)), "no attempt was begun twice"
        lost = sum(task["losses"] for task in tasks)
        assert TASKS <= len({index for index, _ in ran}) <= len(ran) <= TASKS + lost
        assert lost >= 1, "it was killed with work in its hands"
        leave(home, hosts)
        home.run("nodes")  # the next contact with the host that was dead removes the key there


def ran_on(host: Host, log: str) -> list[tuple[str, str]]:
    """Indexes and attempts of what has begun there."""
    return [(index, attempt) for index, _, attempt in (line.partition(" ") for line in lines_on(host, log))]


def lines_on(host: Host, path: str) -> list[str]:
    """What a file of the host holds, if it is there."""
    return host.run("sh", "-c", f"cat {path} 2>/dev/null; :").splitlines()


def test_two_people_share_a_host_and_one_who_dies_with_all_that_was_started_loses_nothing(
    tmp_path: Path, hosts: list[Host]
) -> None:
    host = hosts[1]
    gate = f"/tmp/gate-{secrets.token_hex(4)}"
    waiting = f"until [ -e {gate} ]; do sleep 0.1; done"
    command = f"echo $KUBEQ_JOB >> {gate}.begun; {waiting}; echo {{index}}; echo $KUBEQ_JOB >> {gate}.ended"
    with (
        ssh_home(tmp_path / "one", [host], KUBEQ_LEASE="5") as one,
        ssh_home(tmp_path / "two", [host], KUBEQ_LEASE="5") as two,
    ):
        jobs = {
            home: home.submit("--hosts", one_slot_each(home, [host]), "--seq", "2", "--shell", command)
            for home in (one, two)
        }
        eventually(lambda: set(lines_on(host, f"{gate}.begun")) == set(jobs.values()), "both have begun", one)
        assert one.json("nodes")["nodes"][0]["name"] != two.json("nodes")["nodes"][0]["name"]
        for pid in filter(None, (one.relay(), one.tunnels())):
            os.kill(pid, signal.SIGKILL)
        host.run("touch", gate)
        two.run("watch", jobs[two])
        eventually(lambda: jobs[one] in lines_on(host, f"{gate}.ended"), "a command of the other has ended too", one)
        one.run("resume", jobs[one])
        one.run("watch", jobs[one])
        for home, job in jobs.items():
            assert [task["losses"] for task in home.tasks(job)] == [0, 0], "nothing was run twice"
            home.run("fetch", job, "out")
            assert [(home.cwd / f"out/{index}/stdout.txt").read_text() for index in (1, 2)] == ["1\n", "2\n"]


def test_a_disk_that_fills_up_costs_one_attempt_and_is_told_as_the_reason(tmp_path: Path, hosts: list[Host]) -> None:
    full, other = hosts[1:]
    gate = f"/tmp/gate-{secrets.token_hex(4)}"
    full.run("mkdir", "-p", "/home/ada/.local", user="ada")
    full.run("mount", "-t", "tmpfs", "-o", "size=600m,mode=700,uid=1000,gid=1000", "tmpfs", "/home/ada/.local")
    try:
        with ssh_home(tmp_path / "home", hosts[1:], KUBEQ_LEASE="5") as home:
            command = f"echo {{index}} >> {gate}.begun; until [ -e {gate} ]; do sleep 0.1; done; hostname"
            where = one_slot_each(home, [full, other])
            waiting = home.start(
                *("sub", "--hosts", where, "--seq", "6", "--retries", "2", "--fetch", "out", "--shell", command)
            )
            eventually(lambda: lines_on(full, f"{gate}.begun") and lines_on(other, f"{gate}.begun"), "both run", home)
            full.run("mount", "-o", "remount,size=2m", "/home/ada/.local")
            full.run("sh", "-c", "cat /dev/zero > /home/ada/.local/filling 2>/dev/null; :")
            for host in (full, other):
                host.run("touch", gate)
            out, err = waiting.communicate(timeout=120)
            assert waiting.returncode == 0, out + err
            assert {(home.cwd / f"out/{index}/stdout.txt").read_text() for index in range(1, 7)} == {f"{other.name}\n"}
            reasons = [node["because"] or "" for node in home.json("nodes", "--all")["nodes"]]
            assert any("No space left on device" in reason for reason in reasons), reasons
            full.run("rm", "/home/ada/.local/filling")
            leave(home, [full, other])
    finally:
        full.run("umount", "-l", "/home/ada/.local")


def test_hosts_may_share_a_home_directory(ssh_image: str, tmp_path: Path) -> None:
    bare = {"WITHOUT_DOCKER": "1"}
    with (
        ssh_hosts(tmp_path, 2, environment=bare, share_home=True) as pair,
        ssh_home(tmp_path / "home", pair, KUBEQ_LEASE="5") as home,
    ):
        gate = "/home/ada/gate"  # one file for both
        command = f"hostname >> {gate}.begun; until [ -e {gate} ]; do sleep 0.1; done; hostname"
        waiting = home.start(
            "sub", "--hosts", one_slot_each(home, pair), "--seq", "4", "--fetch", "out", "--shell", command
        )
        names = {host.name for host in pair}
        eventually(lambda: set(lines_on(pair[0], f"{gate}.begun")) == names, "it runs on both", home)
        first, second = home.json("nodes")["nodes"]
        assert (first["state"], second["state"]) == ("active", "active")
        home.run("nodes", "--stop", first["name"])
        eventually(lambda: states(home) == ["active", "gone"], "one has left", home)
        assert keys_on(pair[0]) != "", "the other's way in stays"
        pair[0].run("touch", gate, user="ada")
        out, err = waiting.communicate(timeout=120)
        assert waiting.returncode == 0, out + err
        assert [task["losses"] for task in home.tasks("LAST")] == [0, 0, 0, 0]


def states(home: Home) -> list[str]:
    """Of its nodes."""
    return sorted(node["state"].partition(" ")[0] for node in home.json("nodes", "--all")["nodes"])
