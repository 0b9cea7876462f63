"""Digests: the only name for bytes."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.core.digest import Digest, digest_of_chunks


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_the_digest_of_pieces_is_that_of_the_whole(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert digest_of_chunks(pieces) == Digest.of(whole) == Digest(hashlib.sha256(whole).hexdigest(), len(whole))


@given(st.binary(max_size=50))
def test_a_digest_is_read_back_from_its_text(content: bytes) -> None:
    assert Digest.parse(str(Digest.of(content))) == Digest.of(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "0" * 64,
        "0" * 64 + "-",
        "0" * 63 + "-1",
        "G" * 64 + "-1",
        "A" * 64 + "-1",
        "0" * 64 + "-01",
        "0" * 64 + "--1",
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        Digest.parse(text)


@pytest.mark.parametrize(("sha256", "size"), [("0" * 64, -1), ("x", 1), ("", 0)])
def test_an_invalid_digest_cannot_be_made(sha256: str, size: int) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        Digest(sha256, size)


@given(st.text(max_size=80))
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert str(Digest.parse(text)) == text
