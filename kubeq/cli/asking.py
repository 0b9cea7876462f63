"""Questions before something is deleted or money is spent, asked on the user's own terminal whatever stdin is."""

from __future__ import annotations

from kubeq.cli.global_options import Globals
from kubeq.cli.output import Output
from kubeq.errors import UsageError


def confirm(settings: Globals, question: str) -> bool:
    """Whether the user agrees; `--yes` agrees to everything.

    Raises UsageError without a terminal: nothing is deleted that nobody agreed to, and nothing ever hangs.
    """
    if settings.yes:
        return True
    answer = ask(settings.output, question)
    if answer is None:
        raise UsageError(f"there is no terminal to ask on: {question}", hint="add --yes to agree")
    return answer


def ask(output: Output, question: str) -> bool | None:
    """What the user says, lines of the question and all; None without a terminal."""
    try:
        with open("/dev/tty", "r+b", buffering=0) as terminal:
            lines = "\n".join(output.safe(line, True) for line in question.split("\n"))
            terminal.write(f"{lines} [y/N] ".encode())
            return terminal.readline(64).strip().lower() in (b"y", b"yes")
    except OSError:
        return None
