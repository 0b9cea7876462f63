"""The foreground and background without containers: what works on any machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.homes import ROOT, Home, eventually


def test_a_command_runs_here_with_no_file_account_or_login(home: Home) -> None:
    done = home.run("sub", "--local", "--image", "none", "echo", "hi")
    assert done.stdout == "hi\n"


def test_the_exit_code_says_that_a_task_failed_and_its_output_is_shown(home: Home) -> None:
    done = home.run("sub", "--local", "--image", "none", "sh", "-c", "echo so it goes; exit 7", code=3)
    assert "so it goes" in done.stdout + done.stderr
    (task,) = home.tasks("LAST")
    assert (task["state"], task["reason"], task["exit"]["code"]) == ("failed", "exit", 7)


def test_words_arrive_unchanged_from_the_command_line_and_from_a_table(home: Home) -> None:
    words = ["a b", "", "it's", '"q"', "$HOME", "*", "line\nbreak", "{x}{{", "naïve ☃", "back\\slash", "`id`", "-n"]
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = home.run("sub", "--local", "--image", "none", sys.executable, "-c", show, *words)
    assert json.loads(done.stdout) == words
    (home.cwd / "p.csv").write_text('x,other\n"{other} ""q"" $HOME\n*",never\n', encoding="utf-8")
    home.run(
        "sub", "--local", "--image", "none", "--params", "p.csv", sys.executable, "-c", show, "[{x}]", "{{x}", "{other}"
    )
    home.run("fetch", "LAST", "out")
    assert json.loads((home.cwd / "out/1/stdout.txt").read_text()) == ['[{other} "q" $HOME\n*]', "{x}", "never"]


def test_a_background_job_outlives_the_shell_that_started_it(home: Home) -> None:
    shell = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m kubeq -q sub --no-wait --image none sh -c 'sleep 2; echo done'; kill -HUP $$",
        ],
        cwd=home.cwd,
        env=home.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    job = shell.stdout.strip()
    eventually(lambda: home.stands(job) == "succeeded", "the job succeeds with its shell gone", home)
    assert home.run("logs", f"{job}/1").stdout == "done\n"


def test_no_other_agent_can_take_the_tasks_of_a_local_run(home: Home) -> None:
    home.env["KUBEQ_LINGER"] = "90"
    warm = home.submit("--image", "none", "true")
    eventually(lambda: home.stands(warm) == "succeeded", "a shared agent is warm", home)
    shared = set(home.agents())
    home.run("sub", "--local", "--image", "none", "--seq", "5", "true", "{index}")
    assert {task["node"] for task in home.tasks("LAST")}.isdisjoint(shared)


def test_several_agents_on_one_machine_never_give_away_more_than_it_has(home: Home) -> None:
    cpus = len(os.sched_getaffinity(0))
    program = (
        "import os,sys,time,pathlib; d=pathlib.Path(sys.argv[1]); f=d/str(os.getpid()); f.touch();"
        "n=len(list(d.iterdir())); time.sleep(0.2); f.unlink(); sys.exit(n>int(sys.argv[2]))"
    )
    running = home.root / "running"
    running.mkdir()
    job = home.submit(
        "--image", "none", "--seq", str(6 * cpus), sys.executable, "-c", program, str(running), str(cpus), "{index}"
    )
    home.run("addnodes", "2", job)
    assert home.run("watch", job, code=None).returncode == 0, home.run("list", job).stdout


def test_a_job_gets_more_nodes_and_then_fewer_while_it_runs_and_no_attempt_is_stopped_for_it(home: Home) -> None:
    running, cores = home.root / "running", len(os.sched_getaffinity(0))
    running.mkdir()
    script = f"touch {running}/{{index}}; until [ -e {running}/go ]; do sleep 0.1; done"
    job = home.submit("--image", "none", "-r", "cpu=0.5", "--seq", str(3 * cores), "sh", "-c", script)
    eventually(lambda: len(list(running.iterdir())) == 2 * cores, "as many tasks run as fit", home)
    raised = home.json("addnodes", "--to", "3", job)
    assert (raised["target"], raised["before"], len(raised["nodes"])) == (3, None, 2)
    eventually(lambda: len(home.agents()) == 3, "three agents live", home)
    lowered = home.json("addnodes", "--to", "1", job)
    assert sorted(lowered["ended"] + lowered["leaving"]) == sorted(raised["nodes"])
    eventually(lambda: len(home.agents()) == 1, "those without work have left, and what runs goes on", home)
    (running / "go").touch()
    eventually(lambda: home.stands(job) == "succeeded", "the job succeeds", home)
    tasks = home.tasks(job)
    assert [(task["state"], task["attempt"], task["losses"]) for task in tasks] == [("succeeded", 1, 0)] * 3 * cores


def test_a_time_limit_ends_the_command_and_its_children(home: Home) -> None:
    mark = home.root / "alive"
    script = f"trap '' TERM; (while :; do date > {mark}; sleep 0.1; done) & sleep 100"
    started = time.monotonic()
    home.run("sub", "--local", "--image", "none", "--timeout", "1", "sh", "-c", script, code=3)
    assert time.monotonic() - started < 90
    (task,) = home.tasks("LAST")
    assert task["reason"] == "time_limit"
    last = mark.stat().st_mtime_ns
    time.sleep(0.5)
    assert mark.stat().st_mtime_ns == last, "a child of the task is still running"


def test_retries_run_a_failed_task_again_and_then_give_up(home: Home) -> None:
    count = home.root / "count"
    script = f"echo x >> {count}; test $(wc -l < {count}) -ge 3"
    home.run("sub", "--local", "--image", "none", "--retries", "2", "sh", "-c", script)
    (task,) = home.tasks("LAST")
    assert (task["state"], task["attempt"], task["failures"]) == ("succeeded", 3, 2)


def test_an_attempt_goes_on_from_what_the_one_before_it_has_left(home: Home) -> None:
    script = 'cd "$KUBEQ_CHECKPOINT"; cat steps; echo $KUBEQ_ATTEMPT >> steps; test $KUBEQ_ATTEMPT -ge 3'
    home.run("sub", "--local", "-n", "steps", "--image", "none", "--retries", "2", "sh", "-c", script)
    assert home.run("logs", "steps/1").stdout == "1\n2\n"
    stored = [path for path in home.state.rglob("checkpoints/*/*/*") if path.is_file()]
    assert stored == [], "a task that succeeded needs none any more"


def test_kill_stops_what_runs_and_nothing_starts_afterwards(home: Home) -> None:
    witness = home.root / "witness"
    job = home.submit("--image", "none", "--seq", "50", "sh", "-c", f"echo {{index}} >> {witness}; sleep 60")
    eventually(witness.exists, "a task has started", home)
    home.run("kill", job)
    before = witness.read_text()
    eventually(lambda: home.stands(job) == "cancelled", "the job is cancelled", home)
    time.sleep(2)
    assert witness.read_text() == before
    assert home.status(job)["tasks"]["cancelled"] == 50


def test_output_can_be_followed_while_the_task_runs(home: Home) -> None:
    go = home.root / "go"
    script = f"echo tick 1; until [ -e {go} ]; do sleep 0.1; done; for i in 2 3 4 5 6; do echo tick $i; sleep 0.3; done"
    job = home.submit("--image", "none", "sh", "-c", script)
    follower = home.start("logs", "-f", f"{job}/1")
    assert follower.stdout is not None
    first = follower.stdout.readline()
    assert first == "tick 1\n"
    assert home.status(job)["status"] == "running", "the first line came while the task was running"
    go.touch()
    rest = follower.stdout.read()
    assert follower.wait(60) == 0
    assert rest == "".join(f"tick {number}\n" for number in range(2, 7))


def test_unchanged_inputs_are_sent_once_and_are_no_outputs(home: Home) -> None:
    (home.cwd / "in").mkdir()
    (home.cwd / "in/a.txt").write_text("A")
    (home.cwd / "in/b.txt").write_text("B")
    script = "cat in/a.txt in/b.txt; echo changed > in/b.txt; echo new > new.txt"
    first = home.json("sub", "--local", "--image", "none", "-u", "in", "sh", "-c", script)
    assert (first["uploaded"]["files"], first["uploaded"]["already"]) == (2, 0)
    second = home.json("sub", "--local", "--image", "none", "-u", "in", "sh", "-c", script)
    assert (second["uploaded"]["bytes"], second["uploaded"]["already"]) == (0, 2)
    home.run("fetch", "LAST", "out")
    found = sorted(
        str(path.relative_to(home.cwd / "out/1")) for path in (home.cwd / "out/1").rglob("*") if path.is_file()
    )
    assert found == ["in/b.txt", "new.txt", "result.json", "stdout.txt"]


def test_inputs_may_be_stored_apart_from_results(home: Home) -> None:
    (home.cwd / "a.txt").write_text("A")
    stores = f"default_url_prefix = file://{home.root}/mine\ncas_url_prefix = file://{home.root}/shared\n"
    (home.cwd / ".kubeq").write_text(f"[config]\n{stores}")
    home.run("sub", "--image", "none", "-u", "a.txt", "sh", "-c", "cat a.txt > b.txt")
    home.run("fetch", "LAST", "out")
    assert (home.cwd / "out/1/b.txt").read_text() == "A"
    assert {path.name for path in (home.root / "mine").iterdir()} >= {"results"}
    assert not (home.root / "mine/blobs").exists()
    assert (home.root / "shared/blobs").is_dir() and not (home.root / "shared/results").exists()


def test_another_home_with_the_same_configuration_sees_and_fetches_the_job(home: Home, tmp_path: Path) -> None:
    config = f"[config]\ndefault_url_prefix = file://{home.root}/store\nqueue_url = sqlite:{home.root}/q.db\n"
    (home.cwd / ".kubeq").write_text(config)
    job = home.submit("--image", "none", "-n", "shared", "sh", "-c", "echo here > x")
    eventually(lambda: home.stands(job) == "succeeded", "it succeeds", home)
    other = Home(tmp_path / "other")
    (other.cwd / ".kubeq").write_text(config)
    assert other.status("shared")["id"] == job
    assert other.run("logs", job).stdout == ""
    other.run("fetch", "shared", "out")
    assert (other.cwd / "out/1/x").read_text() == "here\n"
    assert not other.agents()


def test_a_check_starts_a_node_that_runs_a_task_and_leaves_nothing(home: Home) -> None:
    home.env["KUBEQ_LINGER"] = "90"
    job = home.submit("--image", "none", "true")
    eventually(lambda: home.stands(job) == "succeeded", "it succeeds", home)
    before = set(home.agents())
    found = home.json("check", "--node", "-o", "image=none")
    assert found["ok"] and found["checks"][-1]["check"] == "node"
    assert found["checks"][-1]["outcome"] == "passed"
    assert set(home.agents()) <= before
    assert [each["id"] for each in home.json("status")["jobs"]] == [job] == [home.status("LAST")["id"]]
    assert {node["name"] for node in home.json("nodes", "--all")["nodes"]} == before
    assert not list(home.state.glob("check-*"))
    assert {path.parent.name for path in (home.state / "store").rglob("*") if path.is_file()} & {
        "probe",
        "logs",
    } == set()


def test_a_check_says_what_a_node_died_of(home: Home) -> None:
    found = home.json("check", "--node", "-o", "image=none", "-o", "cache_dir=/proc/nowhere", code=6)
    node = found["checks"][-1]
    assert (node["check"], node["outcome"]) == ("node", "failed")
    assert "/proc/nowhere" in node["message"]
    assert home.json("status")["jobs"] == [] and not list(home.state.glob("check-*"))


def test_a_fetched_tree_is_not_fetched_again(home: Home) -> None:
    home.run("sub", "--local", "--image", "none", "--seq", "3", "sh", "-c", "echo {index} > x")
    first = home.json("fetch", "LAST", "out")
    assert [one["index"] for one in first["fetched"]] == [1, 2, 3]
    again = home.json("fetch", "LAST", "out")
    assert sum(one["bytes"] for one in again["fetched"]) == 0


def test_ctrl_c_detaches_and_the_job_goes_on(home: Home) -> None:
    go = home.root / "go"
    waiting = home.start("sub", "--image", "none", "sh", "-c", f"until [ -e {go} ]; do sleep 0.1; done")
    job = eventually(lambda: home.json("status")["jobs"], "the job exists", home)[0]["id"]
    eventually(lambda: home.stands(job) == "running", "it runs", home)
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert job in err
    go.touch()
    eventually(lambda: home.stands(job) == "succeeded", "the job goes on without its client", home)


def test_an_abort_leaves_cleanly_and_resume_goes_on(home: Home) -> None:
    first, done, go = (home.root / name for name in ("first", "done", "go"))
    waiting = home.start(
        "sub",
        "--image",
        "none",
        "--on-interrupt",
        "abort",
        "--seq",
        "6",
        "sh",
        "-c",
        f"mkdir {first} 2>/dev/null || until [ -e {go} ]; do sleep 0.1; done; echo {{index}} >> {done}",
    )
    eventually(done.exists, "something has finished", home)
    waiting.send_signal(signal.SIGTERM)
    waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    eventually(lambda: not home.agents(), "no agent is left", home)
    (job,) = home.json("status")["jobs"]
    assert job["status"] == "paused"
    go.touch()
    home.run("resume", job["id"])
    eventually(lambda: home.stands(job["id"]) == "succeeded", "the rest ran", home)
    assert sorted(done.read_text().split()) == ["1", "2", "3", "4", "5", "6"]


def test_an_agent_leaves_by_itself_after_the_linger_time(home: Home) -> None:
    job = home.submit("--image", "none", "true")
    eventually(lambda: home.stands(job) == "succeeded", "it succeeds", home)
    assert home.agents()
    eventually(lambda: not home.agents(), "the idle agent has left", home, timeout=30)
    (node,) = home.json("nodes", "--all")["nodes"]
    assert (node["state"], node["reason"]) == ("gone", "idle")


def test_a_prepared_job_runs_by_the_command_that_was_printed(home: Home) -> None:
    done = home.run("sub", "--prepare", "--image", "none", "echo", "by hand")
    (job,) = home.json("status")["jobs"]
    assert not home.agents()
    command = next(
        line
        for line in (done.stdout + done.stderr).splitlines()
        if "kubeq_consumer" in line or "kubeq-consumer" in line
    )
    agent = subprocess.Popen(["bash", "-c", f"exec env {command.strip().removeprefix('env ')}"], env=home.env, cwd=ROOT)
    try:
        eventually(lambda: home.stands(job["id"]) == "succeeded", "the agent by hand runs it", home)
    finally:
        agent.terminate()
        agent.wait(30)
    assert home.run("logs", f"{job['id']}/1").stdout == "by hand\n"


def test_a_second_submission_on_a_warm_pool_starts_no_new_agent(home: Home) -> None:
    home.env["KUBEQ_LINGER"] = "90"
    first = home.submit("--image", "none", "true")
    eventually(lambda: home.stands(first) == "succeeded", "the first ends", home)
    before = home.agents()
    started = time.monotonic()
    home.run("sub", "--image", "none", "true")
    assert time.monotonic() - started < 40
    assert home.agents() == before


def test_files_of_results_belong_to_their_parameters(home: Home) -> None:
    (home.cwd / "p.csv").write_text("name,size\nß,1\nb,2\n", encoding="utf-8")
    home.run("sub", "--local", "--image", "none", "--params", "p.csv", "sh", "-c", "echo {name}{size}")
    home.run("fetch", "LAST", "out")
    document = json.loads((home.cwd / "out/1/result.json").read_text())
    assert document["parameters"] == {"name": "ß", "size": "1"}
    assert document["command"] == ["sh", "-c", "echo ß1"]
    assert Path(home.cwd / "out/2/stdout.txt").read_text() == "b2\n"


def test_a_nodes_log_shows_what_it_did_and_all_that_it_ran_also_while_it_does(home: Home) -> None:
    go = home.root / "go"
    script = f"echo {{index}} begins; until [ -e {go} ]; do sleep 0.1; done; echo {{index}} ends"
    job = home.submit("--image", "none", "--seq", "2", "sh", "-c", script)
    (node,) = home.agents()
    follower = home.start("logs", "-f", node)
    assert follower.stdout is not None
    seen: list[str] = []
    while f"[{job}/1] 1 begins\n" not in seen:
        seen.append(follower.stdout.readline())
        assert seen[-1], "the log goes on while its node lives"
    go.touch()
    eventually(lambda: home.stands(job) == "succeeded", "it succeeds", home)
    rest, _ = follower.communicate(timeout=60)
    assert f"[{job}/2] 2 ends\n" in "".join(seen) + rest
    assert f"node {node} has left: idle" in rest
    whole = home.run("logs", node).stdout
    assert f"attempt {job}/1/1 starts" in whole and f"[{job}/1] 1 ends\n" in whole


def test_the_log_of_a_node_whose_files_are_elsewhere_is_in_the_store(home: Home) -> None:
    home.env["KUBEQ_LINGER"] = "90"
    printed = home.run("sub", "--prepare", "--image", "none", "echo", "from afar").stdout
    line = next(line for line in printed.splitlines() if "kubeq_consumer" in line)
    afar = home.root / "afar"
    line = line.replace("KUBEQ_AGENT_LOG_HERE=1", "").replace(f"_STATE={home.state}", f"_STATE={afar}")
    agent = subprocess.Popen(
        ["bash", "-c", f"exec {line.replace(f'_LOG={home.state}', f'_LOG={afar}')}"], env=home.env, cwd=ROOT
    )
    try:
        eventually(lambda: home.stands("LAST") == "succeeded", "it succeeds", home)
        (node,) = {task["node"] for task in home.tasks("LAST")}
        assert not (home.state / "nodes" / node).exists()
        eventually(lambda: "from afar" in home.run("logs", node, code=None).stdout, "its log is stored", home)
    finally:
        agent.terminate()
        agent.wait(30)
    assert f"node {node} has left: terminated" in home.run("logs", node).stdout
