"""Questions before something is deleted, asked on the user's own terminal whatever stdin and stdout are."""

from __future__ import annotations

from kubeq.cli.main import Globals
from kubeq.errors import UsageError


def confirm(settings: Globals, question: str) -> bool:
    """Whether the user agrees; `--yes` agrees to everything.

    Raises UsageError without a terminal: nothing is deleted that nobody agreed to, and nothing ever hangs.
    """
    if settings.yes:
        return True
    try:
        with open("/dev/tty", "r+b", buffering=0) as terminal:
            terminal.write(f"{settings.output.safe(question, True)} [y/N] ".encode())
            return terminal.readline(64).strip().lower() in (b"y", b"yes")
    except OSError:
        raise UsageError(f"there is no terminal to ask on: {question}", hint="add --yes to agree") from None
