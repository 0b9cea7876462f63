"""`sub` as far as it goes without an engine and without nodes: help, dry runs, and every bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Snapshot = Callable[..., None]
MODES = {"text": (), "json": ("--json",), "quiet": ("-q",)}
PREPARED = ("sub", "--prepare", "--image", "none")


def test_the_help_of_sub(kubeq: Any, snapshot: Snapshot) -> None:
    snapshot(kubeq("sub", "--help"), "sub-help")


@pytest.mark.parametrize("mode", MODES)
def test_a_dry_run_says_what_would_be_done_and_makes_no_folder(kubeq: Any, snapshot: Snapshot, mode: str) -> None:
    kubeq.write("square.py", "print(2)\n")
    kubeq.write("params.csv", "x,y\n1,a b\n2,{x}\n")
    options = ("-i", "none", "-n", "demo", "--dry-run", "--params", "params.csv")
    words = ("sub", *options, "python3", "^square.py", "{x}", "--", "{y}")
    snapshot(kubeq(*MODES[mode], *words), f"sub-dry-run-{mode}")
    assert kubeq.nothing_stored()
    assert not (kubeq.root / "cache").exists()


def test_a_dry_run_names_the_hosts_on_which_nodes_would_be_started(kubeq: Any) -> None:
    words = ("sub", "-i", "none", "--dry-run", "--hosts", "one.invalid,ada@two.invalid", "--seq", "3")
    both = kubeq(*words, "true")
    assert "would start 2 agents on one.invalid, ada@two.invalid\n" in both.stdout, both.stderr
    assert "would start 1 agent on 1 of one.invalid, ada@two.invalid\n" in kubeq(*words, "--nodes", "1", "true").stdout
    assert kubeq.nothing_stored()


def test_a_job_for_which_no_host_can_be_had_is_kept_and_its_user_told_what_to_do(kubeq: Any) -> None:
    ran = kubeq("sub", "-i", "none", "--hosts", "one.invalid", "true")
    assert ran.code == 6
    job = kubeq("-q", "status").stdout.strip()
    error, hint = ran.stderr.splitlines()[-2:]
    assert error.startswith("error: no node could be started: there is no host 'one.invalid'")
    assert hint == f"hint: the job is stored: mend that, then kubeq resume {job}; kubeq kill {job} gives it up"
    for words in (("resume", job), ("-o", "hosts=one.invalid", "addnodes", "1", job)):
        again = kubeq(*words)
        assert again.code == 6 and again.stderr.splitlines()[-1] == hint
    by_hand = kubeq("-o", "hosts=one.invalid", "addnodes", "1")
    assert by_hand.code == 6 and by_hand.stderr.endswith("try again; kubeq hosts looks at hosts of yours\n")


def test_options_end_at_the_first_word_of_the_command(kubeq: Any) -> None:
    ran = kubeq("--json", "sub", "-i", "none", "--dry-run", "ls", "-n", "--json", "--", "-q")
    assert json.loads(ran.stdout)["commands"] == [["ls", "-n", "--json", "--", "-q"]]


def test_words_arrive_as_they_were_typed(kubeq: Any) -> None:
    words = ["printf", "", "a b", "$HOME", "*", "'\"", "line\nbreak", "{not a column}", "{{", "ünïcode", "`x`;|&"]
    ran = kubeq("sub", "--json", "-i", "none", "--dry-run", *words)
    assert json.loads(ran.stdout)["commands"] == [words]


HOSTS_KEY = "[config]\nhosts = nodes/hosts\n"
BAD: dict[str, tuple[tuple[str, ...], dict[str, str | bytes]]] = {
    "no-command": (("sub",), {}),
    "empty-command": (("sub", ""), {}),
    "unknown-option": (("sub", "--parms", "x.csv", "true"), {}),
    "option-without-value": (("sub", "--params"), {}),
    "unknown-column": (("sub", "--params", "p.csv", "echo", "{z}"), {"p.csv": "x,y\n1,2\n"}),
    "empty-table": (("sub", "--params", "p.csv", "echo", "{x}"), {"p.csv": ""}),
    "table-without-rows": (("sub", "--params", "p.csv", "echo", "{x}"), {"p.csv": "x\n"}),
    "duplicate-headers": (("sub", "--params", "p.csv", "echo", "{x}"), {"p.csv": "x,x\n1,2\n"}),
    "ragged-rows": (("sub", "--params", "p.csv", "echo", "{x}"), {"p.csv": "x,y\n1\n1,2,3\n"}),
    "table-not-utf8": (("sub", "--params", "p.csv", "echo", "{x}"), {"p.csv": b"x\n\xff\n"}),
    "missing-table": (("sub", "--params", "p.csv", "echo", "{x}"), {}),
    "missing-file": (("sub", "-u", "gone.txt", "true"), {}),
    "missing-staged-file": (("sub", "python3", "^gone.py"), {}),
    "caret-at-nothing": (("sub", "python3", "^"), {}),
    "two-inputs-one-destination": (("sub", "-u", "a:x", "-u", "b:x", "true"), {"a": "1", "b": "2"}),
    "absolute-destination": (("sub", "-u", "a:/etc/x", "true"), {"a": "1"}),
    "leaving-destination": (("sub", "-u", "a:../x", "true"), {"a": "1"}),
    "bad-memory": (("sub", "-r", "memory=4Q", "true"), {}),
    "bad-cpu": (("sub", "-r", "cpu=lots", "true"), {}),
    "bad-timeout": (("sub", "--timeout", "10 minutes", "true"), {}),
    "bad-retries": (("sub", "--retries", "-1", "true"), {}),
    "bad-name": (("sub", "-n", "a/b", "true"), {}),
    "reserved-name": (("sub", "-n", "LAST", "true"), {}),
    "bad-image": (("sub", "-i", "Python:3", "true"), {}),
    "bad-network": (("sub", "--network", "wifi", "true"), {}),
    "bad-seq": (("sub", "--seq", "0", "true"), {}),
    "bad-cd": (("sub", "--cd", "../up", "true"), {}),
    "bad-results": (("sub", "--results", "/etc/*", "true"), {}),
    "bad-mount": (("sub", "--mount", "nowhere", "true"), {}),
    "missing-mount": (("sub", "--mount", "nowhere:/data", "true"), {}),
    "bad-environment": (("sub", "-e", "KUBEQ_JOB=x", "true"), {}),
    "unset-environment": (("sub", "-e", "NOT_SET_ANYWHERE", "true"), {}),
    "container-options-without-one": (("sub", "--image", "none", "--user", "me", "-r", "memory=1G", "true"), {}),
    "runtime-against-image": (("sub", "--runtime", "process", "-i", "python:3", "true"), {}),
    "no-wait-and-fetch": (("sub", "--no-wait", "--fetch", "out", "true"), {}),
    "local-and-no-wait": (("sub", "--local", "--no-wait", "true"), {}),
    "larger-than-the-machine": (("sub", "-r", "cpu=100000", "true"), {}),
    "fetch-into-a-file": (("sub", "-i", "none", "--fetch", "a", "true"), {"a": "1"}),
    "fetch-below-a-file": (("sub", "-i", "none", "--fetch", "a/b/c", "true"), {"a": "1"}),
    "program-is-a-directory": (("sub", "-i", "none", "^d"), {"d/x": "1"}),
    "program-not-executable": (("sub", "-i", "none", "^run.sh"), {"run.sh": "echo hi\n"}),
    "program-of-a-row-not-executable": (
        ("sub", "-i", "none", "--params", "p.csv", "^{x}"),
        {"p.csv": "x\na\n", "a": ""},
    ),
    "no-image-and-docker": (("sub", "-i", "none", "--runtime", "docker", "true"), {}),
    "empty-upload-list": (("sub", "-u", "@list", "true"), {"list": "# nothing\n\n"}),
    "name-like-an-id": (("sub", "-n", "20260102-030405-0001", "true"), {}),
    "mount-of-the-engine": (("sub", "--mount", "/:/machine", "true"), {}),
    "name-without-value": (("sub", "-n"), {}),
    "resource-twice": (("sub", "-r", "cpu=1,cpu=2", "true"), {}),
    "missing-env-file": (("sub", "--env-file", "gone", "true"), {}),
    "table-is-a-directory": (("sub", "--params", "d", "true"), {"d/x": "1"}),
    "far-option": (("sub", "--rows", "2", "true"), {}),
    "absolute-cd": (("sub", "--cd", "/abs", "true"), {}),
    "csv-answer": (("sub", "--csv", "true"), {}),
    "missing-hosts-file": (("sub", "-i", "none", "--hosts", "one,missing.txt", "true"), {}),
    "missing-key": (("sub", "-i", "none", "--hosts", "one", "--ssh-identity", "gone", "true"), {}),
    "missing-hosts-file-in-the-configuration": (("sub", "-i", "none", "true"), {".kubeq": HOSTS_KEY}),
    "no-engine": (("sub", "true"), {}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_a_hint_and_stores_nothing(kubeq: Any, snapshot: Snapshot, name: str) -> None:
    words, files = BAD[name]
    for path, content in files.items():
        kubeq.write(path, content)
    ran = kubeq(*words)
    assert ran.code == (6 if name == "no-engine" else 2)
    assert ran.stdout == ""
    assert kubeq.nothing_stored()
    if name != "larger-than-the-machine":  # whose text names this machine's size
        snapshot(ran, f"sub-bad-{name}")


def test_an_error_in_json_has_code_message_and_hint(kubeq: Any, snapshot: Snapshot) -> None:
    snapshot(kubeq("--json", "sub", "-n", "a/b", "true"), "sub-bad-name-json")
    snapshot(kubeq("-q", "sub", "-n", "a/b", "true"), "sub-bad-name-quiet")


def test_a_column_that_no_word_uses_is_a_warning(kubeq: Any, snapshot: Snapshot) -> None:
    kubeq.write("p.csv", "x,unused\n1,2\n1,2\n")
    snapshot(kubeq("sub", "-i", "none", "--dry-run", "--params", "p.csv", "echo", "{x}"), "sub-unused-column")


@pytest.mark.parametrize("mode", MODES)
def test_prepare_stores_everything_and_prints_the_agents_command(kubeq: Any, mode: str) -> None:
    kubeq.write("a.txt", "hello")
    ran = kubeq(*MODES[mode], *PREPARED, "-u", "a.txt", "cat", "a.txt")
    assert ran.code == 0, ran.stderr
    lines = ran.stdout.splitlines()
    match mode:
        case "text":
            assert len(lines) == 2
            command = lines[1]
        case "json":
            answer = json.loads(ran.stdout)
            assert answer["uploaded"] == {"files": 1, "bytes": 5, "already": 0}
            assert answer["nodes_requested"] == 0
            command = answer["agent_command"]
        case _:
            assert len(lines) == 1
            return
    assert command.endswith("-m kubeq_consumer")
    assert "KUBEQ_AGENT_POOL=" in command
    assert not (kubeq.state / "nodes").exists()


def test_a_second_submission_says_what_was_in_the_store_and_sends_none_of_it(kubeq: Any, snapshot: Snapshot) -> None:
    kubeq.write("a.txt", "hello")
    kubeq.write("b.txt", "again")
    words = (*PREPARED, "-u", "a.txt", "-u", "b.txt", "cat", "a.txt")
    assert kubeq(*words).code == 0
    again = json.loads(kubeq("--json", *words).stdout)
    assert again["uploaded"] == {"files": 0, "bytes": 0, "already": 2}


def test_a_name_in_use_is_respected_as_if_exists_says(kubeq: Any, snapshot: Snapshot) -> None:
    named = (*PREPARED, "-n", "sweep")
    first = kubeq("-q", *named, "true").stdout.strip()
    equal = kubeq("-q", *named, "true")
    assert equal.stdout.strip() == first
    other = kubeq(*named, "false")
    assert other.code == 5
    snapshot(other, "sub-name-taken")
    assert kubeq(*named, "--if-exists", "abort", "true").code == 5
    for policy in (("skip", "false"), ("new", "true")):
        new = kubeq("-q", *named, "--if-exists", *policy)
        assert new.code == 0, new.stderr
        assert new.stdout.strip() != first


LOCAL = ("sub", "--local", "-i", "none", "-o", "linger=1")


def test_why_a_task_failed_is_told_at_the_end(kubeq: Any) -> None:
    kubeq.write("run.sh", "#!/bin/sh\necho out\nln -s nowhere link\nexit 3\n").chmod(0o755)
    ran = kubeq(*LOCAL, "^run.sh")
    assert (ran.code, ran.stdout) == (3, "out\n")
    told = ran.stderr[ran.stderr.index("task 1: ") :].splitlines()
    assert told[0] == "task 1: exit code 3"
    assert told[1].startswith("1 file was not stored, as links and special files are not: kubeq show ")
    assert told[-1].startswith("hint: kubeq show ") and "/1 tells more; kubeq retry " in told[-1]
    ran = kubeq(*LOCAL, "--timeout", "200ms", "sleep", "9")
    assert "\ntask 1: stopped after 0.2s, its time limit\n" in ran.stderr
    ran = kubeq(*LOCAL, "no-such-program-anywhere")
    assert "\ntask 1: cannot run 'no-such-program-anywhere': not found in PATH\n" in ran.stderr


def test_the_failures_of_several_tasks_are_counted_by_reason(kubeq: Any) -> None:
    ran = kubeq(*LOCAL, "--seq", "3", "--shell", "exit {index}")
    assert ran.code == 3
    reasons = next(line for line in ran.stderr.splitlines() if line.startswith("why: 3 failed ("))
    assert all(f"exit code {code}" in reasons for code in (1, 2, 3))
    assert "\ntask 1: exit code 1\n" in ran.stderr
    assert "its last lines" not in ran.stderr


def test_files_that_are_not_stored_are_told_by_sub_list_show_and_fetch(kubeq: Any) -> None:
    ran = kubeq(*LOCAL, "-n", "odd", "--shell", "ln -s a b; mkfifo c; echo x > d")
    assert ran.code == 0
    assert "2 files were not stored, as links and special files are not: kubeq show " in ran.stderr
    assert kubeq("list", "odd").stdout.endswith("  2 files not stored\n")
    assert json.loads(kubeq("--json", "list", "odd").stdout)["tasks"][0]["skipped"] == 2
    assert "\n  not stored  2 files; kubeq list " in kubeq("show", "odd").stdout
    assert json.loads(kubeq("--json", "show", "odd").stdout)["skipped"] == 2
    for _ in range(2):  # also when it is there already
        fetched = kubeq("fetch", "odd", "out").stdout
        assert "\nnot stored: 2 files of task 1, as links and special files are not; kubeq show " in fetched
    assert json.loads(kubeq("--json", "fetch", "odd", "out").stdout)["not_stored"] == [{"index": 1, "files": 2}]


@pytest.mark.parametrize("word", ["./run.sh", "run.sh"])
def test_a_program_that_lies_here_and_is_not_staged_is_a_warning(kubeq: Any, word: str) -> None:
    kubeq.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    ran = kubeq("sub", "-i", "none", "--dry-run", word)
    assert f"the program '{word}' is a file here and is not staged" in ran.stderr and "write '^run.sh'" in ran.stderr
    assert "staged" not in kubeq("sub", "-i", "none", "--dry-run", "-u", "run.sh", "./run.sh").stderr


def test_a_caret_inside_a_line_of_shell_is_a_warning(kubeq: Any) -> None:
    ran = kubeq("sub", "-i", "none", "--dry-run", "--shell", "cat ^show.py")
    assert "'^' stages a file only as a word's first character; this is none: '^show.py'" in ran.stderr


def test_a_dry_run_asks_for_the_image_as_a_submission_does(kubeq: Any) -> None:
    ran = kubeq("sub", "--dry-run", "true")
    assert (ran.code, ran.stdout) == (6, "") and "no Docker engine answers" in ran.stderr
    assert kubeq.nothing_stored()


def test_a_dry_run_names_twenty_files_and_counts_the_rest(kubeq: Any) -> None:
    for number in range(23):
        kubeq.write(f"d/{number:02}", str(number))
    lines = kubeq("sub", "-i", "none", "--dry-run", "-u", "d:e", "true").stdout.splitlines()
    assert f"  {kubeq.project}/d/19 as e/19 (2 B)" in lines and "  and 3 more" in lines
    assert not any("d/20" in line for line in lines)


@pytest.mark.parametrize("command", [("status",), ("sub", "-i", "none", "true")])
@pytest.mark.parametrize("place", ["/proc/x", "a-file"])
def test_a_state_folder_that_cannot_be_is_one_sentence(kubeq: Any, command: tuple[str, ...], place: str) -> None:
    kubeq.write("a-file", "precious")
    ran = kubeq(*command, environment={"KUBEQ_STATE_DIR": place})
    assert ran.code == 6 and ran.stdout == ""
    assert ran.stderr.startswith("error: the state folder /") and f"{place} cannot be used: " in ran.stderr
    assert ran.stderr.count("\n") == 2 and "hint: name another one: KUBEQ_STATE_DIR=DIR" in ran.stderr


def test_a_cache_folder_that_cannot_be_used_is_not_worth_a_word(kubeq: Any) -> None:
    kubeq.write("a-file", "x")
    ran = kubeq(*PREPARED, "-u", "a-file", "true", environment={"KUBEQ_CACHE_DIR": f"{kubeq.project}/a-file"})
    assert ran.code == 0 and "cache" not in ran.stderr


def test_a_cache_folder_that_no_node_here_can_use_is_said_before_anything_is_stored(kubeq: Any) -> None:
    kubeq.write("a-file", "x")
    ran = kubeq("sub", "-i", "none", "true", environment={"KUBEQ_CACHE_DIR": f"{kubeq.project}/a-file"})
    assert (ran.code, ran.stdout) == (6, "") and kubeq.nothing_stored()
    assert (
        ran.stderr.startswith("error: the cache folder /") and "hint: name another one: KUBEQ_CACHE_DIR=" in ran.stderr
    )


def test_a_store_that_cannot_be_is_said_before_anything_is_stored(kubeq: Any) -> None:
    kubeq.write("a-file", "x")
    ran = kubeq("sub", "-i", "none", "-o", f"default_url_prefix=file://{kubeq.project}/a-file/store", "true")
    assert (ran.code, ran.stdout) == (6, "") and kubeq.nothing_stored()
    assert ran.stderr.splitlines()[-2].startswith(f"error: the store's folder {kubeq.project}/a-file/store cannot be")


def test_a_pipe_that_nothing_reads_is_a_warning(kubeq: Any) -> None:
    told = "warning: stdin is a pipe that nothing reads: tasks have no stdin"
    assert told in kubeq("sub", "-i", "none", "--dry-run", "true", stdin="a line\n").stderr
    assert told not in kubeq("sub", "-i", "none", "--dry-run", "true").stderr
    assert told not in kubeq("sub", "-i", "none", "--dry-run", "--stdin", "echo", stdin="a line\n").stderr


def test_what_the_parts_below_warn_of_looks_like_every_warning(kubeq: Any) -> None:
    kubeq.state.mkdir(parents=True, exist_ok=True)
    (kubeq.state / "journal.jsonl").write_text("no record\n{}\n")
    ran = kubeq("show", "LAST")
    assert ran.stderr.splitlines()[0].startswith("warning: lines of the journal ")
    assert "WARNING kubeq.actions.journal: lines of" in kubeq("-v", "show", "LAST").stderr


def test_a_command_is_suggested_only_if_it_is_near(kubeq: Any) -> None:
    assert "hint: did you mean status?" in kubeq("stauts").stderr
    assert "hint: kubeq --help lists the commands" in kubeq("bogus").stderr


def test_the_examples_of_the_help_have_their_options_in_front_of_the_command(kubeq: Any) -> None:
    examples = kubeq("sub", "--help").stdout.partition("Examples:")[2].splitlines()
    own = {"--name", "-n", "-i", "--params", "--fetch", "--stdin", "--local"}
    lines = [line.split("kubeq sub ")[1].split() for line in examples if "kubeq sub " in line]
    assert len(lines) == 3
    for words in lines:
        first = next(at for at, word in enumerate(words) if word in {"echo", "python3"})
        assert not own & set(words[first:]), words


def test_a_preview_says_nothing_of_the_store_where_there_is_no_input(kubeq: Any) -> None:
    assert "would send no file\n" in kubeq("sub", "-i", "none", "--dry-run", "true").stdout


def test_a_name_in_the_environment_is_said_to_be_no_setting(kubeq: Any) -> None:
    ran = kubeq("config", "lease", environment={"KUBEQ_NAME": "x"})
    assert "the variable KUBEQ_NAME is not read: 'name' is an option only, --name" in ran.stderr
