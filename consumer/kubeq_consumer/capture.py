"""What a command prints: into one bounded file, and live into the store as log segments.

Up to the job's limit everything is kept. Beyond it the head and the last `TAIL` bytes are kept, with a line between
them that says how much is missing. Memory is bounded whatever a command prints.
"""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

from kubeq.core.quantities import format_size

TAIL = 256 * 1024
SEGMENT = 4 * 1024 * 1024
"""The most that one log segment carries, so that shipping never holds more than this in memory."""


class Capture:
    """A command's output file. `write` is the runtime's; the rest is the agent's, from other threads."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._head = max(limit - TAIL, limit // 2)
        self._tail_room = limit - self._head
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._written = 0
        self._shipped = 0
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.dropped = 0

    def open(self) -> Capture:
        """Make the file; called once, before the command starts."""
        self._file = self.path.open("wb", buffering=0)
        return self

    def write(self, chunk: bytes) -> int:
        """Take what the command printed."""
        with self._lock:
            assert self._file is not None
            room = self._head - self._written
            if room > 0:
                self._file.write(chunk[:room])
                self._written += min(room, len(chunk))
            if len(chunk) > room:
                self._keep(chunk[max(room, 0) :])
        return len(chunk)

    def unshipped(self) -> bytes:
        """The next piece for a log segment; empty if there is nothing new. The same again until `shipped`."""
        with self._lock:
            start, end = self._shipped, min(self._written, self._shipped + SEGMENT)
        if start == end:
            return b""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def shipped(self, size: int) -> None:
        """So many bytes more need not be shipped again."""
        self._shipped += size

    def close(self) -> None:
        """Finish the file: the tail behind the head, with a line between them if anything was dropped. Safe twice."""
        with self._lock:
            if self._file is None:
                return
            if self.dropped:
                line = f"\n[kubeq: {format_size(self.dropped)} of output were dropped here ({self.dropped} bytes)]\n"
                self._file.write(line.encode())
            for chunk in self._tail:
                self._file.write(chunk)
            self._tail.clear()
            self._file.close()
            self._file = None

    def _keep(self, chunk: bytes) -> None:
        if len(chunk) > self._tail_room:
            self.dropped += len(chunk) - self._tail_room
            chunk = chunk[-self._tail_room :]
        self._tail.append(chunk)
        self._tail_size += len(chunk)
        while self._tail_size > self._tail_room:
            over = self._tail_size - self._tail_room
            oldest = self._tail.popleft()
            cut = min(over, len(oldest))
            self.dropped += cut
            self._tail_size -= cut
            if cut < len(oldest):
                self._tail.appendleft(oldest[cut:])
