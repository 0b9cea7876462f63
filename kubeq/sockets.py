"""Unix sockets at paths of any length; an address holds no more than 107 bytes (Linux, unix(7))."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_PATH = 107
"""Bytes of `sun_path` without the final zero."""


def connected(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the socket there. Raises OSError."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.settimeout(timeout_s)
        with short_name(path) as name:
            one.connect(name)
    except BaseException:
        one.close()
        raise
    return one


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """The path in a form that fits into an address: where it is too long, through a handle of its directory."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
