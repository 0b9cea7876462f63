"""Connections that are kept: a command logs in to a host once, however often the command asks it something.

A host that does not answer is left alone for a while: whoever looks at a pool every few seconds must not wait for that
host each time. What is asked of a host is decided elsewhere.
"""

from __future__ import annotations

import threading
import time
import weakref

from kubeq.errors import BackendError
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_remote import Remote, connect

AGAIN_S = 15.0
"""So long after it could not be logged in to a host is not tried again: about as long as a try may take."""


class _Line:
    """The connection to one host, or why there is none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.remote: Remote | None = None
        self.error: BackendError | None = None
        self.failed_at = 0.0


class Connections:
    """Connections by the names of their hosts, ended with this object. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._end = weakref.finalize(self, _close, self._lines)

    def to(self, name: str, login: Login) -> Remote:
        """A connection to the host of that name over which it has just answered. Raises BackendError.

        For a while after it could not be had it is not tried again: the same error is raised at once.
        """
        line = self._line(name)
        with line.lock:
            if line.remote is not None and line.remote.answers():
                return line.remote
            if line.remote is not None:
                line.remote.close()
                line.remote = None
            if line.error is not None and time.monotonic() - line.failed_at < AGAIN_S:
                raise line.error
            try:
                line.remote, line.error = connect(login), None
            except BackendError as error:
                line.error, line.failed_at = error, time.monotonic()
                raise
            return line.remote

    def close(self) -> None:
        """End them all; the next question makes new ones."""
        with self._lock:
            _close(self._lines)
            self._lines.clear()

    def _line(self, name: str) -> _Line:
        with self._lock:
            return self._lines.setdefault(name, _Line())


def _close(lines: dict[str, _Line]) -> None:
    for line in lines.values():
        if line.remote is not None:
            line.remote.close()
