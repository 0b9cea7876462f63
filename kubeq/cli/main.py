"""The click group, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

import kubeq
from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.output import Mode, Output
from kubeq.errors import BackendError, Interrupted, KubeqError, UsageError

COMMANDS = (
    "addnodes",
    "agent",
    "check",
    "clean",
    "completion",
    "config",
    "connect",
    "cp",
    "fetch",
    "hosts",
    "inject",
    "kill",
    "list",
    "logs",
    "nodes",
    "pause",
    "pool",
    "prices",
    "report",
    "reset",
    "resume",
    "retry",
    "setup",
    "show",
    "status",
    "sub",
    "watch",
)
COMPLETE = "_KUBEQ_COMPLETE"
"""Set by the scripts of `kubeq completion` when a shell asks for words."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class LazyGroup(click.Group):
    """Imports a command's module when that command is asked for, so that `kubeq --version` starts at once."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"kubeq.cli.commands.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not context.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1, cutoff=0.7)
            hint = f"did you mean {near[0]}?" if near else "kubeq --help lists the commands"
            raise UsageError(f"there is no command {args[0]!r}", hint=hint)
        return super().resolve_command(context, args)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@global_options
@click.version_option(kubeq.__version__, prog_name="kubeq")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run ten to a million independent commands in containers, here or anywhere."""
    context.ensure_object(Globals)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with the documented exit code."""
    _open_closed_streams()
    settings = Globals()
    if COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {"obj": settings}, "kubeq", COMPLETE, os.environ[COMPLETE]))
    try:
        with cli.make_context("kubeq", list(sys.argv[1:] if arguments is None else arguments), obj=settings) as context:
            _set_up_logging(settings.values.get("verbose", 0))
            cli.invoke(context)
        code = 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        message = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
        code = _fail(settings, UsageError(message, hint=_usage_hint(error)))
    except (click.Abort, KeyboardInterrupt):
        code = _fail(settings, Interrupted("interrupted"))
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader of stdout has gone; nothing to close
        code = 0
    except KubeqError as error:
        code = _fail(settings, error)
    except Exception as error:
        code = _fail(settings, _unexpected(error))
    if settings.values.get("verbose", 0) >= 2:
        _tell_requests(settings)
    sys.exit(code)


def _tell_requests(settings: Globals) -> None:
    """How many requests the command has made, whatever came of it: they cost money in a cloud."""
    with suppress(UsageError):  # there is no such output mode, and that has been told
        for requests in settings.counted or [lambda: "none"]:
            settings.output.say(f"requests: {requests()}")


def _unexpected(error: Exception) -> KubeqError:
    """What nobody has foreseen is a bug, but for a disk that is full where stdout goes."""
    if isinstance(error, OSError) and error.errno in _FULL:
        _drop_stdout()
        where = f" {error.filename}" if error.filename else ""
        return BackendError(
            f"nothing more can be written{where}: {error.strerror}", hint="free some space, then repeat it"
        )
    traceback.print_exc()
    hint = "please report it together with the lines above"
    return KubeqError(f"this is a bug in kubeq {kubeq.__version__}", hint=hint)


def _drop_stdout() -> None:
    """What stdout still holds cannot be written; the interpreter would try again at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _open_closed_streams() -> None:
    """A stream that the caller has closed goes nowhere; else the next file that is opened would be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it stays for the life of the process


def _fail(settings: Globals, error: KubeqError) -> int:
    try:
        output = settings.output
    except UsageError as wrong_mode:
        error, output = wrong_mode, Output(Mode.TEXT)
    output.error(error)
    return error.exit_code


def _usage_hint(error: click.ClickException) -> str | None:
    context: click.Context | None = getattr(error, "ctx", None)
    hints = []
    if isinstance(error, click.NoSuchOption):
        from difflib import get_close_matches

        if near := get_close_matches(error.option_name, error.possibilities or (), cutoff=0.7):
            hints.append(f"did you mean {' or '.join(near)}?")
        if context is not None and not context.allow_interspersed_args and not isinstance(context.command, click.Group):
            hints.append("write -- before a command that begins with a dash")
    if isinstance(error, click.BadOptionUsage) and not hints:
        hints.append(f"write {error.option_name} VALUE; --help says what it takes")
    if not hints and context is not None:
        hints.append(f"{context.command_path} --help")
    return " ".join(hints) or None


def _set_up_logging(verbosity: int) -> None:
    """More of what kubeq itself says. The clouds' libraries print signatures and session tokens at DEBUG."""
    form = "%(levelname)s %(name)s: %(message)s" if verbosity else "warning: %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, stream=sys.stderr)
    logging.getLogger("kubeq").setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])


if __name__ == "__main__":
    main()
