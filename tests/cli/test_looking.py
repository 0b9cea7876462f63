"""Whole screens of the commands that look at jobs and change them, over jobs that nobody runs any more."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kubeq.actions.journal import Journal, Step
from kubeq.actions.launching import pool_of_job
from kubeq.actions.session import Session
from kubeq.cli.main import main
from kubeq.config import load_config
from kubeq.core.model import Exit, GoneReason, Job, NodeName, NodeState, Pool
from kubeq.core.requests import Requests
from tests.jobs import FakeClock, Work

Kubeq = Any
Snapshot = Callable[..., None]


class Ran(NamedTuple):
    """One command that has ended."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def here(kubeq: Kubeq, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command in this very process: whole screens by the dozen are too slow otherwise."""
    monkeypatch.chdir(kubeq.project)
    for name in [name for name in os.environ if name not in kubeq.environment]:
        monkeypatch.delenv(name)
    for name, value in kubeq.environment.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        stdout, stderr = capfd.readouterr()
        return Ran(words, int(ended.value.code or 0), stdout, stderr)

    return run


@pytest.fixture
def work(kubeq: Kubeq) -> Work:
    """Makes jobs, an hour ago, in the state folder that the commands will see."""
    config = load_config(
        file=None, profile=None, overrides=(), environ=kubeq.environment, cwd=kubeq.project, home=kubeq.root / "home"
    )
    clock = FakeClock()
    clock.wall = time.time() - 3600
    return Work(Session(config, clock), clock)


@pytest.fixture
def sweep(work: Work) -> Job:
    """A job of six tasks that has ended: four succeeded, one failed, one could not be started."""
    rows = [(f"0.{n}", name) for n, name in enumerate(["plain", "two words", 'quo"te', "", "zwölf", "last"], 1)]
    job = work.submit(
        rows,
        ["x", "name"],
        name="sweep",
        command=["python3", "^plot.py", "{x}"],
        inputs={"plot.py": b"print()\n"},
        requests=Requests(queue={"write": 3}, store={"put": 3, "stat": 1}),
    )
    work.run(4, files={"plot.png": b"p" * 2000, "deep/data.csv": b"1,2\n"}, stdout=b"one\ntwo \xc3\xa4\nthree\n")
    work.run(1, Exit(code=3), files={"partial": b"x"}, stdout=b"Traceback: oops\n")
    work.clock.advance(30)
    work.run(1, Exit(never_started="no such image"), publish=False)
    work.report_node(requests=Requests(queue={"write": 1200, "read": 34}, store={"put": 16}))
    journal = Journal(Path(work.session.config.state_dir), work.session.config.queue_url)
    journal.write(job.id, Step.SEALED, job.name, work.clock.now())
    return job


SCREENS: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "status-one": ("status", "sweep"),
    "status-failed": ("status", "sweep", "--failed"),
    "list": ("list", "LAST"),
    "list-failed": ("list", "sweep", "--failed"),
    "list-where": ("list", "sweep", "--where", "x > 0.2 and name != ''"),
    "list-fields": ("list", "sweep", "--fields", "task,exit,wall_s,name"),
    "list-params": ("list", "sweep", "--params-only"),
    "show": ("show", "sweep"),
    "show-task": ("show", "sweep/5"),
    "logs": ("logs", "sweep/1"),
    "logs-picked": ("logs", "sweep"),
    "logs-all": ("logs", "sweep/1-2", "--all", "--tail", "1"),
    "logs-grep": ("logs", "sweep/1", "--grep", "t.*"),
    "fetch": ("fetch", "sweep", "out"),
    "kill": ("kill", "sweep"),
    "pause": ("pause", "sweep"),
    "reset": ("reset", "sweep", "--no-nodes"),
    "reset-named": ("reset", "sweep/1", "--no-nodes"),
    "clean": ("clean", "sweep"),
    "clean-dry-run": ("clean", "--dry-run", "--results"),
    "clean-blobs": ("clean", "--blobs", "--force", "--yes"),
    "addnodes-to": ("addnodes", "--to", "2", "sweep"),
    "config-profiles": ("config", "--profiles"),
    "config-key": ("config", "lease"),
}
MODES = {"text": (), "json": ("--json",), "quiet": ("-q",)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("screen", SCREENS)
def test_the_screen_is_as_it_was(
    here: Callable[..., Ran], sweep: Job, snapshot: Snapshot, screen: str, mode: str
) -> None:
    ran = here(*SCREENS[screen], *MODES[mode])
    snapshot(ran, f"look-{screen}-{mode}")
    if mode == "json":
        assert json.loads(ran.stdout)["schema"] == 1


@pytest.mark.parametrize("screen", ["status", "status-failed", "list", "list-params"])
def test_the_table_is_as_it_was(here: Callable[..., Ran], sweep: Job, snapshot: Snapshot, screen: str) -> None:
    snapshot(here(*SCREENS[screen], "--csv"), f"look-{screen}-csv")


@pytest.mark.parametrize("mode", MODES)
def test_a_job_that_is_paused_and_what_its_status_says_then(
    here: Callable[..., Ran], work: Work, snapshot: Snapshot, mode: str
) -> None:
    work.submit([("1",), ("2",)], ["n"])
    snapshot(here("pause", "demo", *MODES[mode]), f"paused-{mode}")
    snapshot(here("status", *MODES[mode]), f"paused-status-{mode}")


@pytest.mark.parametrize("command", ["pause", "kill"])
def test_nodes_that_another_job_needs_are_not_stopped_with_the_first(
    here: Callable[..., Ran], work: Work, command: str
) -> None:
    work.submit([("1",)], ["n"])
    other = work.submit([("1",)], ["n"], name="other")
    ran = here(command, "demo", "--stop-nodes")
    assert ran.code == 0 and "its nodes serve other jobs too and go on" in ran.stderr
    work.session.queue.cancel_job(other)
    assert "stopped nodes: none was there" in here(command, "demo", "--stop-nodes").stderr


REFUSED: dict[str, tuple[int, tuple[str, ...]]] = {
    "unknown-job": (4, ("status", "nope")),
    "near-job": (4, ("show", "swep")),
    "no-match": (4, ("kill", "z*")),
    "unknown-task": (4, ("list", "sweep/7")),
    "bad-task": (2, ("logs", "sweep/0")),
    "backwards-range": (2, ("list", "sweep/5-2")),
    "several-tasks-shown": (2, ("show", "sweep/1-2")),
    "several-tasks-logged": (2, ("logs", "sweep/1-2")),
    "task-for-a-job": (2, ("watch", "sweep/1")),
    "paused-task": (2, ("pause", "sweep/1")),
    "bad-where": (2, ("list", "sweep", "--where", "x >")),
    "unknown-name-in-where": (2, ("list", "sweep", "--where", "y > 1")),
    "text-as-a-number": (2, ("list", "sweep", "--where", "name > 1")),
    "unknown-field": (2, ("list", "sweep", "--fields", "task,colour")),
    "fields-and-params": (2, ("list", "sweep", "--fields", "task", "--params-only")),
    "unknown-reason": (2, ("list", "sweep", "--reason", "bored")),
    "bad-pattern": (2, ("logs", "sweep/1", "--grep", "(")),
    "timestamps-of-stored": (2, ("logs", "sweep/1", "--timestamps")),
    "follow-all": (2, ("logs", "sweep", "-f", "--all")),
    "no-such-attempt": (4, ("logs", "sweep/1", "--attempt", "2")),
    "nothing-to-reset": (5, ("reset", "sweep/1-4", "--failed")),
    "reset-unknown-node": (4, ("reset", "sweep", "--node", "nobody")),
    "reset-bad-resources": (2, ("reset", "sweep", "-r", "gpus=1")),
    "clean-without-a-terminal": (2, ("clean",)),
    "clean-results-without-a-terminal": (2, ("clean", "sweep", "--results")),
    "clean-bad-age": (2, ("clean", "--older", "soon")),
    "fetch-into-a-file": (2, ("fetch", "sweep", "a-file")),
    "fetch-into-an-empty-word": (2, ("fetch", "sweep", "")),
    "addresses-into-no-directory": (2, ("pool", "up", "--write", "nowhere/addresses")),
    "addresses-into-a-directory": (2, ("pool", "up", "--write", ".")),
    "unknown-key": (4, ("config", "lese")),
    "unknown-shell": (2, ("completion", "tcsh")),
    "no-table": (2, ("show", "sweep", "--csv")),
    "last-in-small-letters": (4, ("status", "last")),
    "logs-swallow-the-job": (2, ("watch", "--logs", "sweep")),
    "watch-into-a-file": (2, ("watch", "sweep", "--fetch", "a-file")),
    "number-of-a-node-alone": (2, ("nodes", "--drain", "1")),
    "number-of-a-node-to-stop": (2, ("nodes", "--stop", "2")),
    "number-of-no-node": (4, ("nodes", "sweep", "--drain", "7")),
    "watch-no-table": (2, ("watch", "sweep", "--csv")),
    "target-of-no-job": (2, ("addnodes", "--to", "3")),
    "target-and-number": (2, ("addnodes", "--to", "3", "2", "sweep")),
    "target-of-none": (2, ("addnodes", "sweep", "--to", "0")),
    "target-of-too-many": (2, ("addnodes", "sweep", "--to", "257")),
    "spot-here": (2, ("addnodes", "1", "sweep", "--spot")),
    "machine-type-here": (2, ("addnodes", "--to", "2", "sweep", "-m", "m5.large")),
    "hosts-here": (2, ("addnodes", "1", "sweep", "--hosts", "alpha,beta")),
    "hosts-and-spot": (2, ("addnodes", "1", "sweep", "--hosts", "alpha", "--no-spot")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_one_sentence_and_a_hint(
    kubeq: Kubeq, here: Callable[..., Ran], sweep: Job, snapshot: Snapshot, name: str
) -> None:
    code, words = REFUSED[name]
    (kubeq.project / "a-file").write_text("precious")
    ran = run_without_terminal(kubeq, *words) if "terminal" in name else here(*words)
    assert ran.code == code, ran.stderr
    assert "Traceback (most" not in ran.stderr and ran.stderr.count("error: ") == 1
    snapshot(ran, f"look-bad-{name}")
    assert (kubeq.project / "a-file").read_text() == "precious"


def run_without_terminal(kubeq: Kubeq, *words: str) -> Ran:
    """The command in a session of its own, where /dev/tty cannot be opened."""
    done = subprocess.run(
        ["setsid", "-w", sys.executable, "-m", "kubeq", *words],
        cwd=kubeq.project,
        env=kubeq.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ran(words, done.returncode, done.stdout, done.stderr)


def on_a_terminal(kubeq: Kubeq, *words: str, typed: bytes = b"") -> tuple[int, str]:
    """The exit code and everything that a terminal received."""
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(kubeq.project)
        os.execve(sys.executable, [sys.executable, "-m", "kubeq", *words], kubeq.environment)
    received, deadline = b"", time.monotonic() + 60
    if typed:
        while b"[y/N]" not in received and time.monotonic() < deadline:
            received += _read(screen)
        os.write(screen, typed)
    while time.monotonic() < deadline:
        chunk = _read(screen)
        if chunk == b"":
            break
        received += chunk
    status = os.waitpid(pid, 0)[1]
    os.close(screen)
    return os.waitstatus_to_exitcode(status), received.decode()


def _read(screen: int) -> bytes:
    ready, _, _ = select.select([screen], [], [], 30)
    try:
        return os.read(screen, 65536) if ready else b""
    except OSError:  # EIO: the process has ended
        return b""


def test_what_a_task_printed_cannot_drive_the_terminal(kubeq: Kubeq, work: Work) -> None:
    work.submit()
    work.run(1, stdout=b"\x1b]0;owned\x07\x1b[2Jx\xe2\x80\xaegnp\n\x9b31m 10%\r 90%\r100%\n")
    code, screen = on_a_terminal(kubeq, "logs", "demo/1")
    assert code == 0
    assert screen == "\\x1b]0;owned\\x07\\x1b[2Jx\\x202egnp\r\n100%\r\n"


def test_a_parameter_cannot_drive_the_terminal_or_break_the_table(kubeq: Kubeq, work: Work) -> None:
    work.submit([("\x1b[31mred",), ("a\nb",)], ["x"])
    code, screen = on_a_terminal(kubeq, "list", "demo", "--color", "never")
    assert code == 0 and "\x1b" not in screen
    assert "\\x1b[31mred" in screen and "a b" in screen and len(screen.splitlines()) == 3


def test_clean_asks_on_the_terminal_and_takes_no_for_an_answer(kubeq: Kubeq, sweep: Job) -> None:
    code, screen = on_a_terminal(kubeq, "clean", typed=b"\n")
    assert code == 0 and "forget 1 job" in screen and "nothing was removed" in screen
    assert kubeq("status", "-q").stdout.split() == [sweep.id]
    code, screen = on_a_terminal(kubeq, "clean", "--results", typed=b"y\n")
    assert code == 0 and "removed sweep" in screen
    assert kubeq("status", "-q").stdout == ""


def test_a_job_that_counts_as_running_shows_the_node_that_died(here: Callable[..., Ran], work: Work) -> None:
    work.report_node()
    job = work.submit([["1"], ["2"]], ["x"])
    work.session.queue.make_pool(Pool(id=job.pool, provider="local", private=False, created_at=0.0))
    work.claim()
    ran = here("status", "demo")
    assert "1 running" in ran.stdout and "gone (lost)" in ran.stdout
    assert [node["reason"] for node in json.loads(here("--json", "status", "demo").stdout)["nodes"]] == ["lost"]
    work.end(work.grants.popitem()[1])
    assert "gone (lost)" not in here("status", "demo").stdout


def test_what_fetch_brings_is_what_the_tasks_wrote(kubeq: Kubeq, sweep: Job) -> None:
    assert kubeq("fetch", "LAST").code == 3
    out = kubeq.project / "sweep"
    assert (out / "1/plot.png").read_bytes() == b"p" * 2000 and (
        out / "5/stdout.txt"
    ).read_text() == "Traceback: oops\n"
    assert not (out / "6").exists()
    again = json.loads(kubeq("fetch", "LAST", "--json").stdout)
    assert (
        again["fetched"] == [] and again["skipped"] == [1, 2, 3, 4, 5] and [m["index"] for m in again["missing"]] == [6]
    )


def test_the_parameters_of_failed_tasks_can_be_submitted_again_unchanged(kubeq: Kubeq, sweep: Job) -> None:
    table = kubeq("list", "sweep", "--params-only").stdout
    kubeq.write("again.csv", table)
    ran = kubeq(
        "sub", "--image", "none", "--prepare", "-q", "-n", "again", "--params", "again.csv", "--", "echo", "{x}{name}"
    )
    assert ran.code == 0, ran.stderr
    assert kubeq("list", "again", "--params-only").stdout == table


def test_watching_a_job_that_has_ended_says_how(kubeq: Kubeq, sweep: Job) -> None:
    ran = kubeq("watch", "sweep", "--json")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.code == 3
    assert [event["state"] for event in events if event["event"] == "task"] == ["succeeded"] * 4 + ["failed"] * 2
    assert events[-1]["event"] == "job" and events[-1]["state"] == "failed"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_asks_kubeq(kubeq: Kubeq, shell: str) -> None:
    ran = kubeq("completion", shell)
    assert ran.code == 0 and f"_KUBEQ_COMPLETE={shell}_complete" in ran.stdout


def test_names_of_jobs_complete(kubeq: Kubeq, sweep: Job) -> None:
    asked = {"_KUBEQ_COMPLETE": "bash_complete", "COMP_WORDS": "kubeq fetch sw", "COMP_CWORD": "2"}
    assert kubeq(environment=asked).stdout == "plain,sweep\n"
    asked = {"_KUBEQ_COMPLETE": "bash_complete", "COMP_WORDS": "kubeq nonsense sw", "COMP_CWORD": "2"}
    assert kubeq(environment=asked).stderr == ""


def test_the_origin_of_a_value_is_shown(kubeq: Kubeq) -> None:
    kubeq.write(".kubeq", "[config]\nlease = 60s\n\n[profile fast]\nlease = 30s\n")
    for words, environment, origin in (
        (("-P", "fast"), {}, "/.kubeq:5"),
        ((), {}, "/.kubeq:2"),
        (("-o", "lease=10s"), {"KUBEQ_LEASE": "50s"}, "-o lease"),
    ):
        shown = json.loads(kubeq("config", "lease", "--json", *words, environment=environment).stdout)
        assert shown["origin"].endswith(origin), shown
    assert kubeq("config", "--profiles").stdout == "fast\n"


def test_status_of_nothing_stores_nothing(kubeq: Kubeq) -> None:
    ran = kubeq("status")
    assert (ran.code, ran.stdout) == (0, "no jobs\n")


def test_without_a_command_the_help_is_the_answer(kubeq: Kubeq) -> None:
    ran = kubeq()
    assert (ran.code, ran.stdout, ran.stderr) == (0, kubeq("--help").stdout, "")


@pytest.mark.parametrize("words", [("list", "sweep", "--json"), ("status",), ("--help",)])
def test_an_answer_that_cannot_be_written_is_one_sentence(kubeq: Kubeq, sweep: Job, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kubeq", *words],
            cwd=kubeq.project, env=kubeq.environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 6
    assert "nothing more can be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("words", [("status",), ("sub", "true"), ("config",)])
def test_a_current_directory_that_is_gone_is_one_sentence(
    kubeq: Kubeq, here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    gone = kubeq.project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = here(*words)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: the current directory does not exist any more\nhint: ")


@pytest.mark.parametrize("mode", MODES)
def test_who_goes_is_said_when_a_job_is_to_have_fewer_nodes(
    here: Callable[..., Ran], work: Work, snapshot: Snapshot, mode: str
) -> None:
    work.clock.wall = time.time() - 5
    first = work.submit([["1"], ["2"], ["3"]], ["x"], name="first")
    work.submit([["1"]], ["x"], name="second")
    names = [NodeName(f"{first.pool}-{number}") for number in range(1, 6)]
    for number, name in enumerate(names, 1):
        tasks = tuple(grant.task.id for grant in work.claim(1, node=name))
        node = work.report_node(name=name, tasks=tasks, pid=None)
        work.session.queue.report(replace(node, number=number))
    work.session.queue.set_nodes(first, 9)
    ran = here("addnodes", "--to", "1", "first", *MODES[mode])
    snapshot(ran, f"look-addnodes-fewer-{mode}")
    assert work.session.queue.refresh(first).nodes == 1


def test_nodes_have_numbers_only_within_a_job_and_are_soon_forgotten(
    kubeq: Kubeq, here: Callable[..., Ran], work: Work
) -> None:
    job = work.submit()
    work.session.queue.number_nodes(pool_of_job(work.session, job), 1)
    work.clock.wall = time.time() - 60
    node = work.report_node(pid=None)
    assert here("nodes").stdout.startswith("name ") and here("nodes", "demo").stdout.startswith("no  name ")
    long_ago = time.time() - 700
    work.session.queue.report(replace(node, state=NodeState.GONE, gone=GoneReason.IDLE, ended_at=long_ago))
    assert here("nodes").stdout == "no nodes\n"
    assert json.loads(here("nodes", "--json").stdout)["nodes"] == []
    assert json.loads(here("nodes", "--all", "--json").stdout)["nodes"][0]["number"] == 1
