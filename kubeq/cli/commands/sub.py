"""`kubeq sub`: submit a command, or a sweep of them."""

from __future__ import annotations

from typing import Any

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.sub_options import sub_options

EPILOG = """\b
Words of COMMAND:
  ^path       stage that file and put its place here (^^ for a word that begins with ^)
  {column}    the task's value, in a job that fans out with --params, --seq or --stdin ({{ for {)
  everything after the first word of COMMAND belongs to it, options too

\b
Same name again: new (always a second job), skip (be content with an equal job), abort (exit 5).
Default for a name given with -n: while a job of that name is under way, skip if it is equal, else
abort; new once it has ended.

\b
Exit code: 0 every task succeeded, 3 some failed or were cancelled, 130 interrupted: the job goes on.

\b
Examples:
  kubeq sub --local echo hi
  seq 10 | kubeq sub --stdin echo executed:
  kubeq sub -n demo -i python:3.12 --params params.csv --fetch out python3 '^square.py' '{x}'
"""


@click.command(
    context_settings={"allow_interspersed_args": False}, epilog=EPILOG, short_help="Submit a command or a sweep."
)
@sub_options
@click.option("--force", is_flag=True, help="Old name of --yes: start machines without asking.")
@global_options
@click.argument("words", metavar="COMMAND...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(settings: Globals, /, words: tuple[str, ...], force: bool, **flags: Any) -> None:
    """Run COMMAND in a container, once or for every row of a table, and wait for the end.

    Options end at the first word of COMMAND.
    """
    from kubeq.cli.submission import run_submission
    from kubeq.config import with_flags

    session = settings.open_session(with_flags(settings.config, flags))
    session.check()
    run_submission(session, settings.output, words, yes=settings.yes or force)
