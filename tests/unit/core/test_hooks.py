"""How hooks are written, and what of them others may read."""

from __future__ import annotations

import pytest

from kubeq.core.hooks import Hook, HookKind, parse_hook
from kubeq.errors import UsageError


@pytest.mark.parametrize(
    ("text", "kind", "argument"),
    [
        ("sh: cat > report.json; echo a:b", HookKind.SHELL, "cat > report.json; echo a:b"),
        ("sh:true", HookKind.SHELL, "true"),
        ("mail: a-b+c@example.org d@e  f@g", HookKind.MAIL, "a-b+c@example.org d@e  f@g"),
        ("http: https://example.org/hook", HookKind.HTTP, "https://example.org/hook"),
        ("https://example.org/hook?x=1", HookKind.HTTP, "https://example.org/hook?x=1"),
        ("py: print(report)", HookKind.PYTHON, "print(report)"),
    ],
)
def test_a_hook_is_a_word_and_what_to_do(text: str, kind: HookKind, argument: str) -> None:
    assert parse_hook(text) == Hook(kind=kind, argument=argument)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no hook"),
        ("echo done", "is no hook"),
        ("ftp://example.org", "is no hook"),
        ("bash: true", "is no hook"),
        ("sh:  ", "says nothing to run"),
        ("mail: only@one", "sender and somebody"),
        ("mail: Ada <ada@example.org> b@c", "sender and somebody"),
        ("http: example.org", "begins with http"),
        ("http: https://", "begins with http"),
    ],
)
def test_what_is_no_hook_is_told_with_what_would_be_one(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as error:
        parse_hook(text)
    assert error.value.hint is not None and error.value.hint.startswith("write ")


def test_the_path_of_a_url_is_a_secret_and_a_long_line_is_cut() -> None:
    assert parse_hook("http: https://u:p@chat.example.org/T0/secret?token=x").title == "http: chat.example.org"
    assert parse_hook("http: https://chat.example.org/T0/secret").title == "http: https://chat.example.org"
    assert len(parse_hook("sh: " + "x" * 500).title) < 70
