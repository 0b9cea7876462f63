"""Turns among the kubeq commands of one machine, for what must not be done by two of them at once."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kubeq.actions.session import Session
from kubeq.errors import Conflict
from kubeq.store.disk import disk_errors

PATIENCE_S = 20.0
"""Longer than the largest submission holds its turn; whoever has it for longer was stopped."""
PAUSE_S = 0.02
"""Between two tries."""


@contextmanager
def one_at_a_time(session: Session, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """A submission's turn between its look at the name and its job's row; other changes that must not meet one take it
    too. Raises Conflict naming the process that does not let go of it."""
    path = session.config.state_dir / "submit.lock"
    deadline = time.monotonic() + patience_s
    with disk_errors("write", os.fsencode(path)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _taken(handle, path):
            if time.monotonic() > deadline:
                raise _in_the_way(handle, patience_s)
            time.sleep(PAUSE_S)
        yield
    finally:
        os.close(handle)


def _taken(handle: int, path: os.PathLike[str]) -> bool:
    """Whether the turn is ours now; our number stands in the file then."""
    with disk_errors("lock", os.fsencode(path)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return True


def _in_the_way(handle: int, patience_s: float) -> Conflict:
    holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
    who = f"process {holder}" if holder.isdigit() else "another process"
    return Conflict(
        f"nothing was submitted or removed: {who} has been at it for more than {patience_s:g} s",
        hint=f"see what it does: ps -fp {holder}" if holder.isdigit() else "end the kubeq command that was stopped",
    )
