"""Bytes that a program printed become the lines that a person would have seen."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core.printed import LONGEST_LINE, Lines, Utf8Stream


@given(text=st.text(max_size=40), cuts=st.lists(st.integers(0, 160), max_size=10))
def test_text_split_inside_characters_comes_out_whole(text: str, cuts: list[int]) -> None:
    encoded = text.encode(errors="replace")
    edges = [0, *sorted(min(cut, len(encoded)) for cut in cuts), len(encoded)]
    stream = Utf8Stream()
    pieces = [stream.feed(encoded[start:end]) for start, end in pairwise(edges)]
    assert "".join(pieces) + stream.close() == encoded.decode()


def test_bytes_that_are_not_text_are_replaced_and_never_an_error() -> None:
    stream = Utf8Stream()
    assert stream.feed(b"a\xff\xfeb") == "a\ufffd\ufffdb"
    assert stream.feed("é".encode()[:1]) == ""
    assert stream.close() == "\ufffd"


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_lines_are_the_same_however_the_bytes_are_cut(pieces: list[bytes]) -> None:
    whole, cut = Lines(), Lines()
    at_once = whole.feed(b"".join(pieces)) + whole.close()
    assert [line for piece in pieces for line in cut.feed(piece)] + cut.close() == at_once


def test_a_character_that_was_cut_in_two_is_whole() -> None:
    lines = Lines()
    assert lines.feed("ä\n".encode()[:1]) == []
    assert lines.feed("ä\n".encode()[1:]) == ["ä"]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"10%\r20%\r100%\n", ["100%"]),
        (b"10%\r20%\r\n", ["20%"]),
        (b"windows\r\n", ["windows"]),
        (b"\r\n", [""]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"", []),
    ],
)
def test_a_progress_bar_leaves_its_last_state_only(printed: bytes, shown: list[str]) -> None:
    lines = Lines()
    assert lines.feed(printed) + lines.close() == shown


def test_output_without_line_ends_is_cut_in_pieces() -> None:
    lines = Lines()
    shown = lines.feed(b"x" * (LONGEST_LINE * 2 + 1))
    assert [len(line) for line in shown] == [LONGEST_LINE] * 2 and lines.close() == ["x"]
