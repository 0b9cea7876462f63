"""The engine's attach stream taken apart, and where a task's output goes. Bounded memory whatever a task prints.

Each frame is a header of 8 bytes (which stream, three zeros, the length in network order) and that many bytes; reads
from the connection end anywhere, within a header too. (Engine API, "Attach to a container", stream format.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kubeq.errors import BackendError
from kubeq_consumer.runtimes.base import Sink

READ_SIZE = 65536
_HEADER = 8
_KEPT_HEAD = 8192
"""kubeq-exec says why it cannot run a command in one line shorter than this."""
_REFUSALS = (
    b"kubeq: cannot run ",
    b"kubeq: cannot change to directory ",
    b"kubeq: cannot open the gate ",
    b"kubeq: cannot pass the gate ",
)


class Demultiplexer:
    """Turns reads from the connection into the bytes that the task wrote, without keeping any of them."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The task's bytes in what was received. Raises BackendError where no frame begins that could be one."""
        at = 0
        while at < len(received):
            if self._left:
                piece = received[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                yield piece
                continue
            missing = _HEADER - len(self._header)
            self._header += received[at : at + missing]
            at += missing
            if len(self._header) == _HEADER:
                self._left = self._length()
                self._header.clear()

    def _length(self) -> int:
        if self._header[0] > 3 or any(self._header[1:4]):
            raise BackendError(f"the Docker engine sent output in no known form (header {self._header.hex()})")
        return int.from_bytes(self._header[4:])


class TaskOutput:
    """Writes a task's bytes to where the agent wants them; remembers the first of them and whether writing failed.

    A task is not held up because its output cannot be stored: after the first error the rest is read and dropped, and
    `failure` says why. Nor is anything written once it is closed.
    """

    def __init__(self, target: Sink) -> None:
        self._target = target
        self._head = bytearray()
        self._written = 0
        self._closed = False
        self.failure: OSError | None = None

    def write(self, piece: bytes) -> None:
        """Pass it on, unless this is closed."""
        if self._closed:
            return
        self._written += len(piece)
        if len(self._head) < _KEPT_HEAD:
            self._head += piece[: _KEPT_HEAD - len(self._head)]
        if self.failure is None:
            try:
                self._target.write(piece)
            except OSError as error:
                self.failure = error

    def close(self) -> None:
        """Drop what comes from now on. Safe twice; the target stays open."""
        self._closed = True

    @property
    def refusal(self) -> str | None:
        """Why kubeq-exec could not run the command, if its line is all that was ever written."""
        head = bytes(self._head)
        alone = self._written == len(head) and head.count(b"\n") == 1 and head.endswith(b"\n")
        if not alone or not head.startswith(_REFUSALS):
            return None
        return head.decode(errors="replace").strip().removeprefix("kubeq: ")


def pump(read: Callable[[int], bytes], output: TaskOutput) -> None:
    """Copy everything from an attach connection to the output; returns at its end. Raises OSError if it breaks."""
    demultiplexer = Demultiplexer()
    while received := read(READ_SIZE):
        if piece := b"".join(demultiplexer.feed(received)):
            output.write(piece)
