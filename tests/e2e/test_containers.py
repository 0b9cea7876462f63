"""The main job and everything around it with real Docker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.homes import ROOT, Home, eventually

pytestmark = pytest.mark.docker


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def containers(job: str) -> list[str]:
    """Everything the engine still has of a job."""
    return docker("ps", "-aq", "--filter", f"label=kubeq.job={job}").split()


def test_the_main_job_from_nothing_to_fetched_pictures(home: Home, base_image: str) -> None:
    example = ROOT / "examples/mandelbrot"
    for name in ("mandelbrot.py", "params.csv"):
        (home.cwd / name).write_bytes((example / name).read_bytes())
    command = ["python3", "^mandelbrot.py", "{x_scale}", "{y_scale}", "{zoom}"]
    first = home.json("sub", "-n", "demo", "-i", base_image, "--params", "params.csv", *command)
    assert first["tasks"] >= 24
    assert first["status"] == "succeeded"
    assert (first["uploaded"]["files"], first["uploaded"]["already"]) == (1, 0)
    home.run("fetch", "LAST", "out/")
    for index in range(1, first["tasks"] + 1):
        folder = home.cwd / "out" / str(index)
        assert (folder / "mandelbrot.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "stdout.txt").read_bytes()
        assert json.loads((folder / "result.json").read_text())["index"] == index
    second = home.json("sub", "-n", "demo", "-i", base_image, "--params", "params.csv", "--no-wait", *command)
    assert (second["uploaded"]["bytes"], second["uploaded"]["already"]) == (0, 1)
    home.run("kill", second["job"])
    assert {task["image_digest"] for task in home.tasks(first["job"])} == {
        docker("inspect", "-f", "{{.Id}}", base_image)
    }
    assert containers(first["job"]) == []


def test_echo_in_a_container(home: Home, busybox_image: str) -> None:
    assert home.run("sub", "--local", "-i", busybox_image, "echo", "hi").stdout == "hi\n"


def test_words_arrive_unchanged_in_the_container(home: Home, base_image: str) -> None:
    words = ["a b", "", "it's", '"q"', "$HOME", "*", "line\nbreak", "{x}{{", "naïve ☃", "back\\slash", "`id`", "-n"]
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = home.run("sub", "--local", "-i", base_image, "python3", "-c", show, *words)
    assert json.loads(done.stdout) == words


def test_stdout_and_stderr_are_one_file_in_their_real_order(home: Home, busybox_image: str) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    home.run("sub", "--local", "-i", busybox_image, "sh", "-c", script)
    home.run("fetch", "LAST", "out")
    expected = "".join(f"out {number}\nerr {number}\n" for number in range(200))
    assert (home.cwd / "out/1/stdout.txt").read_text() == expected


def test_a_container_sees_no_host_path_no_engine_and_no_input(home: Home, busybox_image: str) -> None:
    script = "cat; ls -a /var/run/docker.sock 2>&1; cut -d' ' -f5 /proc/self/mountinfo | grep kubeq; echo; env"
    home.env["CANARY"] = "canary-of-the-submitter"
    done = home.run("sub", "--local", "-i", busybox_image, "sh", "-c", script)
    assert "No such file" in done.stdout
    mounts, _, variables = done.stdout.partition("\n\n")
    own = ["/.kubeq/checkpoint", "/.kubeq/exec", "/.kubeq/gate", "/.kubeq/peers", "/kubeq/work"]
    assert sorted(re.findall(r"^/\S*kubeq\S*$", mounts, re.MULTILINE)) == own
    assert "canary" not in variables
    assert "KUBEQ_AGENT" not in variables
    assert "KUBEQ_TASK_INDEX=1" in variables


@pytest.mark.parametrize(
    ("options", "command", "reason"),
    [
        (["-r", "cpu=1,memory=32Mi"], ["python3", "-c", "x = bytearray(200_000_000); print(len(x))"], "out_of_memory"),
        ([], ["sh", "-c", "kill -SEGV $$"], "signal"),
        (["--timeout", "1"], ["sleep", "100"], "time_limit"),
        ([], ["no-such-program"], "image"),
        ([], ["sh", "-c", "exit 127"], "exit"),
    ],
)
def test_ends_are_told_apart(home: Home, base_image: str, options: list[str], command: list[str], reason: str) -> None:
    home.run("sub", "--local", "-i", base_image, *options, *command, code=3)
    (task,) = home.tasks("LAST")
    assert task["reason"] == reason
    assert task["exit"]["out_of_memory"] is (reason == "out_of_memory")


def test_an_image_that_does_not_exist_is_said_before_anything_is_stored(home: Home, docker_engine: str) -> None:
    done = home.run("sub", "--local", "-i", "kubeq-no-such-image:never", "true", code=6)
    assert "kubeq-no-such-image:never" in done.stderr
    assert home.json("status")["jobs"] == []


def test_every_attempt_runs_the_digest_that_was_submitted(home: Home, base_image: str, busybox_image: str) -> None:
    docker("tag", base_image, "kubeq-moving:tag")
    try:
        job = home.submit("--prepare", "-i", "kubeq-moving:tag", "python3", "-c", "print('pinned')")
        docker("tag", busybox_image, "kubeq-moving:tag")
        home.run("addnodes", "1", job)
        eventually(lambda: home.stands(job) in ("succeeded", "failed"), "it ends", home)
    finally:
        docker("rmi", "kubeq-moving:tag")
    assert home.run("logs", f"{job}/1").stdout == "pinned\n"


def test_the_usage_of_a_task_is_measured(home: Home, base_image: str) -> None:
    burn = "import time; x = b'x' * 60_000_000\nwhile time.process_time() < 1.5: pass"
    home.run("sub", "--local", "-i", base_image, "python3", "-c", burn)
    (task,) = home.tasks("LAST")
    usage = task["usage"]
    assert 1.4 < usage["cpu_s"] < 4
    assert usage["peak_memory_bytes"] > 60_000_000
    assert usage["wall_s"] >= 1.4


def test_containers_of_a_killed_agent_are_removed_by_the_next_one_before_it_claims(
    impatient: Home, busybox_image: str
) -> None:
    home = impatient
    job = home.submit(
        "-i", busybox_image, "sh", "-c", "echo $KUBEQ_ATTEMPT; if [ $KUBEQ_ATTEMPT = 1 ]; then sleep 600; fi"
    )
    eventually(lambda: containers(job), "its container runs", home)
    (first,) = containers(job)
    (victim,) = home.agents().values()
    os.kill(victim, signal.SIGKILL)
    assert containers(job) == [first], "the container outlives its agent"
    home.run("addnodes", "1", job)
    eventually(lambda: home.stands(job) == "succeeded", "the task finishes elsewhere", home)
    assert first not in containers(job)
    assert home.run("logs", f"{job}/1").stdout == "2\n"


def test_outputs_belong_to_the_submitter_whoever_made_them(home: Home, base_image: str) -> None:
    for user in ([], ["--user", "nobody"]):
        home.run("sub", "--local", "-i", base_image, *user, "sh", "-c", "umask 077; mkdir d; echo x > d/f; id -un")
        home.run("fetch", "LAST", f"out{len(user)}")
        made = home.cwd / f"out{len(user)}/1/d/f"
        assert made.stat().st_uid == os.getuid()
        assert made.read_text() == "x\n"
    assert (home.cwd / "out2/1/stdout.txt").read_text() == "nobody\n"


def test_a_flood_of_output_is_cut_with_a_line_that_says_so(home: Home, busybox_image: str) -> None:
    home.env["KUBEQ_LOG_LIMIT"] = "1M"
    home.run("sub", "--local", "-i", busybox_image, "sh", "-c", "yes | head -c 50000000; echo the end", timeout=120)
    home.run("fetch", "LAST", "out")
    text = (home.cwd / "out/1/stdout.txt").read_text()
    assert len(text) < 1_100_000
    assert text.endswith("the end\n")
    assert re.search(r"\[kubeq: .* of output were dropped here \(49\d{6} bytes\)\]", text)


@pytest.mark.alone
def test_the_engine_may_stop_and_start_in_the_middle_of_a_job(home: Home, busybox_image: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can restart the engine")
    pid = Path("/var/run/docker.pid")
    if not pid.exists():
        pytest.skip("the engine of this machine is not ours to restart")
    job = home.submit("-i", busybox_image, "--seq", "8", "sh", "-c", "sleep 2; echo {index}")
    eventually(lambda: home.status(job)["tasks"]["succeeded"] >= 2, "some tasks have succeeded", home)
    os.kill(int(pid.read_text()), signal.SIGTERM)
    eventually(lambda: not pid.exists(), "the engine has stopped", home, timeout=60)
    time.sleep(2)
    assert len(home.agents()) == 1, "the agent did not leave"
    subprocess.run(["sh", str(ROOT / "images/engine.sh")], check=True, capture_output=True, timeout=120)
    eventually(lambda: home.stands(job) == "succeeded", "the job ends", home, timeout=180)
    assert Counter(task["failures"] for task in home.tasks(job)) == {0: 8}, "an engine's death is no task's failure"


def test_the_example_on_real_data(home: Home, base_image: str) -> None:
    licences = Path("/usr/share/common-licenses")
    if not licences.is_dir():
        pytest.skip("this machine has no licence texts")
    example = ROOT / "examples/licences"
    subprocess.run(["python3", str(example / "make_params.py")], cwd=home.cwd, check=True)
    (home.cwd / "words.py").write_bytes((example / "words.py").read_bytes())
    home.run("sub", "-n", "licences", "-i", base_image, "--params", "params.csv", "python3", "^words.py", "^{file}")
    home.run("fetch", "LAST", "out")
    table = subprocess.run(
        ["python3", str(example / "summarise.py"), "out"], cwd=home.cwd, check=True, capture_output=True, text=True
    ).stdout
    assert "GPL-3" in table


def test_a_task_sees_its_own_node_and_one_that_comes_while_it_runs_and_cannot_change_the_list(
    home: Home, busybox_image: str
) -> None:
    go = "until [ $(wc -l < $KUBEQ_PEERS) = 2 ]; do sleep 0.5; done"
    script = f"{go}; cat $KUBEQ_PEERS; echo x >> $KUBEQ_PEERS && exit 9; exit 0"
    job = home.submit("-i", busybox_image, "--user", "65534:65534", "sh", "-c", script)
    eventually(lambda: home.stands(job) == "running", "it runs", home)
    home.run("addnodes", "1", job)
    home.run("watch", job)
    seen = [json.loads(line) for line in home.run("logs", job).stdout.splitlines() if line.startswith("{")]
    assert [(node["number"], node["self"]) for node in seen] == [(1, True), (2, False)]
    assert all(node["address"] and node["host"] for node in seen)
