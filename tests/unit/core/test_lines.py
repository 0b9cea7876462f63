"""Lines of tasks: which lines are tasks, and which words they hold."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.actions.parameters import read_parameters
from kubeq.core.lines import parse_lines, words_of
from kubeq.core.resources import Resources
from kubeq.core.spec import JobSpec, command_of
from kubeq.core.tables import Table
from kubeq.errors import UsageError


def spec(*command: str, shell: bool = False) -> JobSpec:
    return JobSpec(
        command=command, columns=("line",), appends_line=True, shell=shell, resources=Resources(), log_limit=1
    )


def test_blank_lines_and_comments_are_no_tasks_and_order_and_repetitions_are_kept() -> None:
    content = b"# first\nb\n\n  \na # not a comment\r\nb\n"
    assert parse_lines(content, "stdin") == Table(("line",), [("b",), ("a # not a comment",), ("b",)])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("'a b' \"c d\" e\\ f", ["a b", "c d", "e f"]),
        ("''", [""]),
        ("$HOME * ; | `x`", ["$HOME", "*", ";", "|", "`x`"]),
        ("größe 'ä ö'", ["größe", "ä ö"]),
        ("a#b #c", ["a#b", "#c"]),
    ],
)
def test_quotes_mean_what_they_mean_to_a_shell_and_nothing_else_does(line: str, words: list[str]) -> None:
    assert words_of(line) == words


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_what_a_shell_would_quote_comes_back_as_it_was(words: list[str]) -> None:
    import shlex

    assert words_of(shlex.join(words)) == words


def test_every_line_with_an_open_quote_is_named() -> None:
    with pytest.raises(UsageError, match=r"line 2: .*line 4: "):
        parse_lines(b"fine\nit's\nfine\n\"\n", "stdin")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only\n", b"a\0b", b"\xff"])
def test_what_holds_no_task_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError):
        parse_lines(content, "stdin")


def test_the_words_of_a_line_follow_those_of_the_command() -> None:
    assert command_of(spec("echo", "{line}:"), ["a 'b c'"]) == ["echo", "a 'b c':", "a", "b c"]


def test_without_a_command_the_line_is_all_of_it() -> None:
    assert command_of(spec(), ["echo 'a b' $HOME"]) == ["echo", "a b", "$HOME"]


def test_in_a_shell_line_added_words_are_values_and_never_code() -> None:
    command = command_of(spec("echo", shell=True), ["'; rm -rf x' b"])
    assert command == ["/bin/sh", "-c", 'echo "${1}" "${2}"', "sh", "; rm -rf x", "b"]


def test_without_a_command_a_shell_runs_the_line_as_it_is() -> None:
    assert command_of(spec(shell=True), ["echo hi | wc -c"]) == ["/bin/sh", "-c", "echo hi | wc -c"]


def test_lines_cross_with_a_table_and_come_last() -> None:
    table = read_parameters([], "2", io.BytesIO(b"a\nb\n"))
    assert table is not None
    assert table.columns == ("index", "line")
    assert list(table.rows) == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]
