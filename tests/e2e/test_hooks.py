"""Hooks at the end of a job, wherever its submitter is by then."""

from __future__ import annotations

import json

from tests.homes import Home, eventually


def test_hooks_run_once_at_each_end_whoever_sees_it_and_change_no_exit_code(home: Home) -> None:
    told = home.cwd / "told"
    line = "cat >> told; echo >> told; echo no channel; exit 9"
    words = ["--notify", f"sh: {line}", "--report", "py: print(report['total'])"]
    ran = home.run("sub", *words, "--image", "none", "--seq", "2", "--shell", "test {index} = 1", code=3)
    assert f"no channel\nwarning: the hook 'sh: {line}' failed: exit code 9\n2\n" in ran.stderr
    (report,) = map(json.loads, told.read_text().splitlines())
    assert (report["schema"], report["status"], report["tasks"]["failed"]) == (1, "failed", 1)
    again = home.json("report", "LAST")
    assert {**again, "nodes": []} == {**report, "nodes": []}  # a node may report itself after its first task
    assert "no channel" not in home.run("watch", "LAST", code=3).stderr
    assert "no channel" in home.run("retry", "LAST", code=3).stderr
    assert len(told.read_text().splitlines()) == 2


def test_a_submitter_that_does_not_wait_leaves_a_process_that_runs_them(home: Home) -> None:
    told = home.cwd / "told"
    go = home.cwd / "go"
    line = f"until [ -e {go} ]; do sleep 0.1; done"
    job = home.submit("--notify", "sh: cat >> told; echo >> told", "--image", "none", "--shell", line)
    assert "runs its hooks" not in home.run("resume", job).stderr  # there is such a process already
    go.touch()
    (text,) = eventually(lambda: told.exists() and told.read_text().splitlines()[:1], "the hook has run", home)
    assert [json.loads(text)[name] for name in ("job", "status")] == [job, "succeeded"]
    home.run("resume", job)
    assert len(told.read_text().splitlines()) == 1
