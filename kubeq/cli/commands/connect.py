"""`kubeq connect`: a shell, or a command, on a node."""

from __future__ import annotations

import os
import sys

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.errors import BackendError


@click.command(context_settings={"allow_interspersed_args": False}, short_help="A shell or a command on a node.")
@global_options
@click.option("--task", metavar="TASK", help="In the container of that running task, wherever it runs.")
@click.argument("words", metavar="[NODE] [CMD...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(settings: Globals, task: str | None, words: tuple[str, ...]) -> None:
    """Open a shell on NODE (its name, its number, or the beginning of its name; default the first live one), or run CMD
    there. With --task all words are CMD. The exit code is that of the shell or of CMD.
    """
    from kubeq.actions.reaching import command_in, command_on

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if task is not None:
        run = command_in(settings.session, task, words, terminal=terminal)
    else:
        asked = words[2:] if words[1:2] == ("--",) else words[1:]
        run = command_on(settings.session, words[0] if words else None, asked, terminal=terminal)
    try:
        os.execvp(run[0], run)
    except OSError as error:
        hint = "install OpenSSH's client" if run[0] == "ssh" else None
        raise BackendError(f"{run[0]} cannot be started here: {error.strerror}", hint=hint) from error
