"""Output is kept up to a limit, head and tail, with a line that says what is missing; memory stays bounded."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kubeq_consumer.capture import TAIL, Capture


def captured(path: Path, limit: int, chunks: list[bytes]) -> tuple[bytes, Capture]:
    capture = Capture(path, limit).open()
    for chunk in chunks:
        capture.write(chunk)
    capture.close()
    return path.read_bytes(), capture


def test_output_below_the_limit_is_kept_byte_for_byte(tmp_path: Path) -> None:
    content, capture = captured(tmp_path / "out", 100, [b"abc", b"", b"\x00\xff", b"x" * 95])
    assert content == b"abc\x00\xff" + b"x" * 95
    assert capture.dropped == 0


def test_output_past_the_limit_is_cut_with_a_line_that_says_so(tmp_path: Path) -> None:
    content, capture = captured(tmp_path / "out", 1000, [b"a" * 600, b"b" * 5000, b"c" * 100])
    assert capture.dropped == 5700 - 1000
    assert content.startswith(b"a" * 500)
    assert content.endswith(b"b" * 400 + b"c" * 100)
    assert b"[kubeq: 4.7 kB of output were dropped here (4700 bytes)]" in content


def test_a_flood_never_fills_memory_or_the_disk(tmp_path: Path) -> None:
    limit = 1_000_000
    content, capture = captured(tmp_path / "out", limit, [b"y\n" * 32768] * 300)
    assert len(content) < limit + 200
    assert capture.dropped == 300 * 65536 - limit


@settings(max_examples=200, deadline=None)
@given(chunks=st.lists(st.binary(max_size=400), max_size=12), limit=st.integers(10, 600))
def test_head_and_tail_are_exactly_the_ends_of_what_was_printed(
    tmp_path_factory: object, chunks: list[bytes], limit: int
) -> None:
    path = tmp_path_factory.mktemp("capture") / "out"  # type: ignore[attr-defined]
    content, capture = captured(path, limit, chunks)
    whole = b"".join(chunks)
    if len(whole) <= limit:
        assert content == whole
        return
    head = max(limit - TAIL, limit // 2)
    assert capture.dropped == len(whole) - limit
    assert content[:head] == whole[:head]
    assert content.endswith(whole[len(whole) - (limit - head) :])


def test_what_was_shipped_live_is_the_head_without_gaps(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "out", 1000).open()
    capture.write(b"one")
    assert capture.unshipped() == capture.unshipped() == b"one", "what was not sent is offered again"
    capture.shipped(3)
    assert capture.unshipped() == b""
    capture.write(b"two")
    assert capture.unshipped() == b"two"
