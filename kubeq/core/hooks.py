"""What is to be run when a job has ended: the words of `--notify`. How that is done is in `actions.hooks`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from kubeq.errors import UsageError

_URL = re.compile(r"https?://[^/\s]+\S*", re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+")
HINT = "write sh: COMMAND, mail: FROM TO..., http: URL, or py: FILE or code"


class HookKind(StrEnum):
    SHELL = "sh"
    MAIL = "mail"
    HTTP = "http"
    PYTHON = "py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One thing to run. `argument` is a shell line, addresses (the sender first), a URL, or Python: code or a file."""

    kind: HookKind
    argument: str

    @property
    def title(self) -> str:
        """How it is called where others may read it: a URL without its path, which may be a secret."""
        shown = self.argument
        if self.kind is HookKind.HTTP:
            shown = "/".join(shown.split("/")[:3]).rpartition("@")[2].partition("?")[0]
        line = " ".join(shown.split())
        return f"{self.kind}: {line if len(line) <= 60 else line[:57] + '...'}"


def parse_hook(text: str) -> Hook:
    """The hook that is written so. Raises UsageError."""
    word, colon, argument = (part.strip() for part in text.partition(":"))
    if _URL.fullmatch(text.strip()):
        word, argument = HookKind.HTTP.value, text.strip()
    if not colon or word not in list(HookKind):
        raise UsageError(f"{text!r} is no hook", hint=HINT)
    if not argument or "\0" in argument:
        raise UsageError(f"the hook {text!r} says nothing to run", hint=HINT)
    kind = HookKind(word)
    if kind is HookKind.HTTP and not _URL.fullmatch(argument):
        raise UsageError("a hook's URL begins with http:// or https://", hint="write http: https://HOST/PATH")
    addresses = argument.split()
    if kind is HookKind.MAIL and (len(addresses) < 2 or not all(map(_ADDRESS.fullmatch, addresses))):
        raise UsageError(
            f"the hook {text!r} does not name a sender and somebody who gets it",
            hint="write mail: ada@example.org bob@example.org",
        )
    return Hook(kind=kind, argument=argument)
