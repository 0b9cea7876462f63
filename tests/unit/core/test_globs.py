"""Patterns for results and ignored files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core.globs import matches_any


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.png", ["a.png", "x/y/a.png", ".png"], ["a.png.txt", "png"]),
        ("./*.png", ["a.png"], ["x/a.png"]),
        ("/a.png", ["a.png"], ["x/a.png"]),
        ("out/*.png", ["out/a.png"], ["out/x/a.png", "a.png", "x/out/a.png"]),
        ("out/**", ["out/a", "out/x/y"], ["out", "outer/a"]),
        ("**/log", ["log", "a/log", "a/b/log"], ["a/blog"]),
        ("cache/", ["cache/a", "cache/x/y"], ["cache", "x/cache/a"]),
        ("file?.txt", ["file1.txt", "d/fileX.txt"], ["file.txt", "file12.txt"]),
        ("[ab].c", ["a.c", "b.c"], ["c.c", "ab.c"]),
        ("[!ab].c", ["c.c"], ["a.c"]),
        ("a+b(1).txt", ["a+b(1).txt"], ["aab(1).txt"]),
        ("[", ["["], ["a"]),
    ],
)
def test_patterns_mean_what_shells_make_of_them(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in yes if not matches_any(path, [pattern])] == []
    assert [path for path in no if matches_any(path, [pattern])] == []


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_pattern_ever_raises(pattern: str, path: str) -> None:
    assert matches_any(path, [pattern]) in (True, False)
