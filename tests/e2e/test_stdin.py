"""Tasks from a pipe, as they are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.homes import Home


def piped(home: Home, lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "kubeq", "sub", "--local", "--image", "none", "--stdin", *arguments]
    return subprocess.run(words, cwd=home.cwd, env=home.env, input=lines, capture_output=True, text=True, timeout=120)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_every_line_is_a_task_with_its_words_appended(home: Home) -> None:
    done = piped(home, "1\n2 'a b'\n# none\n1\n", "echo", "executed:")
    assert done.returncode == 0, done.stderr
    assert sorted(line.partition("executed:")[2] for line in done.stdout.splitlines()) == [" 1", " 1", " 2 a b"]
    assert [task["command"] for task in home.tasks("LAST")][1] == ["echo", "executed:", "2", "a b"]


def test_without_a_command_the_lines_are_the_commands(home: Home) -> None:
    done = piped(home, "echo one\nsh -c 'exit 3'\n", "--fetch", "out")
    assert done.returncode == 3
    assert (home.cwd / "out/1/stdout.txt").read_text() == "one\n"
    assert home.status("LAST")["name"] == "echo"


def test_a_pipe_without_a_task_stores_nothing(home: Home) -> None:
    done = piped(home, "\n# nothing\n", "echo")
    assert done.returncode == 2
    assert "stdin holds no task" in done.stderr
    assert not (home.state / "queue.db").exists()
