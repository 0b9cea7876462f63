from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeq.errors import BackendError
from kubeq_consumer.runtimes.docker_stream import Demultiplexer, TaskOutput, pump


def framed(pieces: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(piece).to_bytes(4) + piece for stream, piece in pieces)


pieces_of_output = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)))


@given(pieces_of_output, st.lists(st.integers(min_value=1, max_value=60)))
def test_frames_are_put_together_wherever_the_reads_end(pieces: list[tuple[int, bytes]], sizes: list[int]) -> None:
    stream = BytesIO(framed(pieces))
    cuts = iter(sizes)
    target = BytesIO()
    pump(lambda _: stream.read(next(cuts, 7)), TaskOutput(target))
    assert target.getvalue() == b"".join(piece for _, piece in pieces)


def test_a_frame_longer_than_memory_is_passed_on_as_it_comes() -> None:
    demultiplexer = Demultiplexer()
    list(demultiplexer.feed(b"\x01\x00\x00\x00" + (2**32 - 1).to_bytes(4)))
    for _ in range(3):
        assert list(demultiplexer.feed(b"x" * 1000)) == [b"x" * 1000]


def test_what_is_no_frame_is_refused() -> None:
    for header in (b"HTTP/1.1", b"\x04\x00\x00\x00\x00\x00\x00\x01", b"\x01\x00\x01\x00\x00\x00\x00\x01"):
        with pytest.raises(BackendError, match="no known form"):
            list(Demultiplexer().feed(header))


class Full:
    def __init__(self) -> None:
        self.calls = 0

    def write(self, chunk: bytes, /) -> int:
        self.calls += 1
        raise OSError("full")


def test_after_a_write_that_failed_the_rest_is_read_and_dropped() -> None:
    stream, target = BytesIO(framed([(1, b"a")] * 9)), Full()
    output = TaskOutput(target)
    pump(lambda _: stream.read(9), output)
    assert target.calls == 1 and str(output.failure) == "full"
    assert stream.read() == b""


@pytest.mark.parametrize(
    ("written", "refusal"),
    [
        ([b"kubeq: cannot run 'x': not found in PATH\n"], "cannot run 'x': not found in PATH"),
        ([b"kubeq: cannot ", b"run 'x': is a directory\n"], "cannot run 'x': is a directory"),
        (
            [b"kubeq: cannot change to directory 'd': not a directory\n"],
            "cannot change to directory 'd': not a directory",
        ),
        ([b"kubeq: cannot run 'x': not found in PATH"], None),
        ([b"kubeq: cannot run 'x'\n", b"more\n"], None),
        ([b"before\n", b"kubeq: cannot run 'x'\n"], None),
        ([b"kubeq: cannot run '" + b"x" * 9000 + b"'\n"], None),
        ([], None),
    ],
)
def test_a_refusal_is_one_line_and_nothing_else(written: list[bytes], refusal: str | None) -> None:
    output = TaskOutput(BytesIO())
    for piece in written:
        output.write(piece)
    assert output.refusal == refusal
