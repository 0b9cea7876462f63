"""What the documentation names exists, and what exists is documented."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kubeq.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOREIGN = {
    "--rm", "--update-snapshots",
    "--role-name", "--policy-name", "--policy-document", "--project", "--file", "--member", "--role", "--condition",
}  # fmt: skip
"""Options of other programs that the pages mention."""


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def options(command: click.Command) -> set[str]:
    return {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts + parameter.secondary_opts
        if name.startswith("--")
    }


ALL_OPTIONS = set().union(*(options(command) for _, command in commands())) | {"--help", "--version"}


def reference() -> str:
    """docs/commands.md as the commands themselves tell it."""
    lines = [
        "# Every command and option",
        "",
        "What `kubeq COMMAND --help` says, on one page; `pytest tests/cli --update-snapshots` writes it.",
        "",
        "## Before or after every command's name",
        "",
        *rows(cli),
    ]
    for name, command in commands():
        words = [parameter.make_metavar(click.Context(command)) for parameter in command.params if is_word(parameter)]
        lines += [
            "",
            f"## kubeq {' '.join([name, *words])}",
            "",
            plain(inspect.cleandoc(command.help or "")),
        ]
        lines += ["", *own] if (own := rows(command)) else []
    return "\n".join(lines) + "\n"


def plain(help: str) -> str:
    """The help as Markdown: a paragraph that click shall not fill anew (it begins with a backspace) is set as code."""
    blocks = help.split("\n\n")
    return "\n\n".join(
        "```\n" + block.replace("\b\n", "").strip("\n") + "\n```" if "\b" in block else " ".join(block.split())
        for block in blocks
    )


def rows(command: click.Command) -> list[str]:
    """A table of the command's own options."""
    everywhere = {name for parameter in cli.params for name in parameter.opts}
    table = []
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or (command is not cli and set(parameter.opts) <= everywhere):
            continue
        names = ", ".join(f"`{name}`" for name in parameter.opts + parameter.secondary_opts)
        value = "" if parameter.is_flag or parameter.count else f" `{parameter.make_metavar(click.Context(command))}`"
        table.append(f"| {names}{value} | {parameter.help} |".replace(" `[", " `[").replace("|`", "|`"))
    escaped = [re.sub(r"(?<=\w)\|(?=[\w@])", r"\\|", line) for line in table]
    return ["| option | meaning |", "|---|---|", *escaped] if table else []


def is_word(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def test_the_reference_page_says_what_the_commands_say(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs/commands.md"
    if request.config.getoption("--update-snapshots"):
        page.write_text(reference(), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=COMMANDS)
def test_every_option_says_what_it_does(name: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"kubeq {name} {parameter.name}"
    assert command.help


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name.startswith("coming-from-"):  # the first cell of a line is what was typed for another tool
        text = re.sub(r"(?m)^\|[^|]*\|", "|", text)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - ALL_OPTIONS - FOREIGN == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?:^|[`$ ])kubeq ([a-z]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE))
    prose = {"runs", "keeps", "is", "that", "needs", "refuses", "itself"}
    assert named - set(COMMANDS) - prose == set()


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_every_command_is_in_the_documentation() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in COMMANDS if f"kubeq {name}" not in text] == []
