"""Path patterns as shells have them: `*` and `?` stop at `/`, `**` does not, `[abc]` is a set.

A pattern without `/` matches a name at any depth, as in .gitignore; one that begins with `./` or `/` only at the top;
one that ends in `/` matches everything below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


def matches_any(path: str, patterns: Iterable[str]) -> bool:
    """Whether the relative path matches one of the patterns."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    body = pattern.removeprefix("./").lstrip("/")
    if body.endswith("/"):
        body += "**"
    anywhere = "" if "/" in body or pattern.startswith(("./", "/")) else "(?:.*/)?"
    return re.compile(anywhere + "".join(_pieces(body)), re.DOTALL)


def _pieces(body: str) -> Iterable[str]:
    at = 0
    while at < len(body):
        if body.startswith("**/", at):
            yield "(?:.*/)?"
            at += 3
        elif body.startswith("**", at):
            yield ".*"
            at += 2
        elif body[at] == "*":
            yield "[^/]*"
            at += 1
        elif body[at] == "?":
            yield "[^/]"
            at += 1
        elif body[at] == "[" and (end := body.find("]", at + 2)) > 0:
            chosen = body[at + 1 : end].replace("\\", r"\\")
            yield "[" + ("^" + chosen[1:] if chosen[0] in "!^" else chosen) + "]"
            at = end + 1
        else:
            yield re.escape(body[at])
            at += 1
