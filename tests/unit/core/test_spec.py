"""Templates to argument vectors, and what a value can never do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeq.core.resources import Resources
from kubeq.core.spec import JobSpec, check_template, command_of, destination_of, is_staged, placeholders
from kubeq.errors import UsageError

NASTY = [
    "a b",
    "",
    "'",
    '"',
    "$HOME",
    "$(echo hi)",
    "`id`",
    "*",
    "a\nb",
    "\\",
    "{x}",
    "{{",
    "héé",
    "-rf",
    "#",
    "a;b",
    "~",
]
VALUE = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)


def spec(*command: str, columns: tuple[str, ...] = (), shell: bool = False) -> JobSpec:
    return JobSpec(command=command, columns=columns, shell=shell, resources=Resources(), log_limit=1)


def printed(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, check=True, timeout=20)
    return done.stdout.decode()


@pytest.mark.parametrize("word", [*NASTY, "{", "}", "{}", "{a b}", "{x!r}", "{0.__class__}", "x^y", "%s", "{x"])
def test_a_word_of_a_job_that_does_not_fan_out_arrives_as_typed(word: str) -> None:
    assert command_of(spec("echo", word), ()) == ["echo", word]


@pytest.mark.parametrize("value", NASTY)
def test_a_cell_arrives_unchanged(value: str) -> None:
    assert command_of(spec("run", "{x}", "--x={x}{x}", columns=("x",)), (value,)) == [
        "run",
        value,
        f"--x={value}{value}",
    ]


def test_a_cell_that_looks_like_a_placeholder_is_not_replaced_again() -> None:
    assert command_of(spec("{a}{b}", columns=("a", "b")), ("{b}", "{a}")) == ["{b}{a}"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("{{x}", "{x}"),
        ("{{x}}", "{x}}"),
        ("{{{x}", "{1"),
        ("{}", "{}"),
        ("{x!r}", "{x!r}"),
        ("{x.y}", "{x.y}"),
        ("{ x }", "{ x }"),
        ("{0}", "{0}"),
        ("}}", "}}"),
        ("awk {print}", "awk {print}"),
    ],
)
def test_only_an_identifier_in_braces_is_a_placeholder(word: str, expected: str) -> None:
    columns = ("x", "print")
    assert command_of(spec(word, columns=columns), ("1", "{print}")) == [expected]


def test_two_carets_write_one_and_stage_nothing() -> None:
    assert not is_staged("^^a")
    assert command_of(spec("^^a", "^^"), ()) == ["^a", "^"]
    assert command_of(spec("^^{x}", columns=("x",)), ("v",)) == ["^v"]


def test_a_staged_word_becomes_the_place_of_its_file() -> None:
    words = ("run", "^a/./b.py", "^/abs/c.py", "^/abs/dir/")
    assert command_of(spec(*words), ()) == ["run", "a/b.py", "c.py", "dir"]
    assert command_of(spec("run", "^{x}.csv", columns=("x",)), ("in/1",)) == ["run", "in/1.csv"]


def test_a_staged_program_is_not_looked_up_in_the_path() -> None:
    assert command_of(spec("^run.sh", "^run.sh"), ()) == ["./run.sh", "run.sh"]
    assert command_of(spec("^./bin/run"), ()) == ["./bin/run"]
    assert command_of(spec("^{x}", columns=("x",)), ("run",)) == ["./run"]
    assert command_of(spec("^run.sh", "x", shell=True), ()) == ["/bin/sh", "-c", '"${1}" x', "sh", "./run.sh"]


@pytest.mark.parametrize("path", ["../x", "a/../../b", "", "/", "."])
def test_a_staged_path_that_has_no_place_in_the_work_directory_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        destination_of(path)


def test_an_unknown_placeholder_names_the_word_and_the_columns() -> None:
    with pytest.raises(UsageError, match="asks for the unknown column 'z'") as caught:
        check_template(["run", "--v={z}"], ["x", "y"])
    assert "'--v={z}'" in caught.value.message
    assert "'x', 'y'" in str(caught.value.hint)


def test_unused_columns_are_told() -> None:
    assert check_template(["^{x}", "{{y}"], ["x", "y"]) == ("y",)
    assert placeholders("{x}{{y}{z}") == ["x", "z"]


@pytest.mark.parametrize("template", ["{x}", "'{x}'", '"{x}"', '"$(printf %s "{x}")"', "\"a'{x}'b\"", "it\\'s{x}"])
@pytest.mark.parametrize("value", ["$(touch canary)", "`touch canary`", "'; touch canary; '", '"; touch canary; "'])
def test_a_value_never_becomes_code(template: str, value: str, tmp_path: Path) -> None:
    argv = command_of(spec(f"printf %s {template}", columns=("x",), shell=True), (value,))
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=True, timeout=20)
    assert value.encode() in done.stdout
    assert not (tmp_path / "canary").exists()


@settings(max_examples=60, deadline=None)
@given(value=VALUE, template=st.sampled_from(["{x}", "'{x}'", '"{x}"', "# it's {x}\nprintf %s {x}", "''{x}#''"]))
def test_in_a_shell_line_a_value_is_one_word_whatever_quotes_surround_it(value: str, template: str) -> None:
    line = template if template.startswith("#") else f"printf %s {template}"
    expected = f"{value}#" if template.endswith("#''") else value
    assert printed(command_of(spec(line, columns=("x",), shell=True), (value,))) == expected


def test_a_value_inside_a_command_substitution_inside_quotes_stays_one_word() -> None:
    line = 'printf "<%s>" "$(printf "[%s]" "{x}" {x})" {{'
    assert printed(command_of(spec(line, columns=("x",), shell=True), ("a  b *",))) == "<[a  b *][a  b *]><{>"


def test_a_shell_line_of_several_words_is_joined_by_blanks_and_run_as_typed() -> None:
    assert command_of(spec("echo", "$HOME", "|", "cat", shell=True), ()) == ["/bin/sh", "-c", "echo $HOME | cat"]


def test_a_staged_word_of_a_shell_line_is_one_word() -> None:
    assert printed(command_of(spec("printf", "%s", "^a b$(id)", "|", "cat", shell=True), ())) == "a b$(id)"
