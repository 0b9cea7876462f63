"""Reading from a node that may be slow, may send more or less than it said, or may do so on purpose."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Protocol

from kubeq.errors import BackendError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

QUIET_S = 60.0
"""How long a node may send nothing at all in the middle of a request."""
CHUNK = 2**18


class Line(Protocol):
    """What a connection has to offer: a socket does, and so does a channel of an SSH connection."""

    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float, /) -> None: ...


class Timed(io.RawIOBase):
    """The bytes of a connection, until the time that was allowed is over: then TimeoutError."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._deadline = 0.0

    def allow(self, seconds: float) -> None:
        """All that is read from now on has to come within so many seconds."""
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the node takes too long over its request")
        self._line.settimeout(min(left, QUIET_S))
        piece = self._line.recv(min(len(view), CHUNK))
        view[: len(piece)] = piece
        return len(piece)


class Body(io.RawIOBase):
    """The announced number of bytes of a request; BackendError if the node breaks off before."""

    def __init__(self, stream: io.BufferedIOBase, size: int) -> None:
        self._stream = stream
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self.left]
        if not view:
            return 0
        count = self._stream.readinto1(view)
        if not count:
            raise BackendError("the node broke off in the middle of its request", transient=True)
        self.left -= count
        return count

    def drain(self, most: int) -> bool:
        """Whether nothing is left, after reading away at most so much."""
        if self.left > most:
            return False
        while self.left:
            self.readinto(bytearray(min(self.left, CHUNK)))
        return True
