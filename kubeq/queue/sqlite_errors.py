"""What SQLite and the operating system say about the file under the SQLite table, as errors of ours; raises nothing."""

from __future__ import annotations

import errno
import os
import shlex
import sqlite3
from pathlib import Path

from kubeq.errors import AccessDenied, BackendError

FILES_OF_A_CONNECTION = 4
"""What SQLite has open for one: the file, its -wal, its -shm, and for a moment the folder."""


def explain(error: sqlite3.Error | MemoryError, path: Path) -> BackendError:
    """What SQLite said, as one of our errors."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_NOMEM if isinstance(error, MemoryError) else None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:  # SQLite waits before it says so
            hint = "end the program that has the file open; it is not a kubeq command"
            return BackendError(
                f"the queue {path} is locked by another program", hint=hint, transient=True, waited=True
            )
        case sqlite3.SQLITE_NOMEM:
            return _short_of(path, "this machine is out of memory")
        case sqlite3.SQLITE_INTERRUPT:
            return BackendError(f"the queue {path} did not answer: it was interrupted", transient=True)
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(path, str(error))
        case sqlite3.SQLITE_CANTOPEN if (why := _why_not_opened(path)) is not None:
            return explain_os_error(why, path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return denied(path, str(error))
        case sqlite3.SQLITE_IOERR:
            return BackendError(
                f"the queue {path} cannot be read or written: {error}", hint="see dmesg for disk errors"
            )
        case _:
            return BackendError(f"the queue {path} did not do what it was asked: {error}")


def explain_os_error(error: OSError, path: Path) -> BackendError:
    """Why the file, its folder or the side file cannot be used."""
    words = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT:
            return replaced(path)
        case errno.ENOSPC | errno.EDQUOT:
            return _full(path)
        case errno.EMFILE | errno.ENFILE | errno.ENOMEM | errno.ENOLCK | errno.EINTR | errno.EAGAIN:
            return _short_of(path, words)
        case errno.EIO:
            return BackendError(
                f"the queue {path} cannot be read or written: {words}", hint="see dmesg for disk errors"
            )
        case _:
            return denied(path, words)


def damaged(path: Path, words: str) -> BackendError:
    """The error for a file whose pages make no sense."""
    old, new = shlex.quote(str(path)), shlex.quote(f"{path}.new")
    return BackendError(
        f"the queue {path} is damaged: {words}",
        hint=f"stop every kubeq, save what can be read with: sqlite3 {old} .recover | sqlite3 {new}",
    )


def replaced(path: Path) -> BackendError:
    """The error for a file that is no longer the one that was opened."""
    return BackendError(
        f"the queue {path} was deleted or replaced while in use",
        hint="stop every kubeq that uses it, put the file back with its -wal file, and start again",
    )


def denied(path: Path, words: str) -> AccessDenied:
    """The error for a folder in which the file cannot be made or written."""
    return AccessDenied(
        f"the queue cannot be opened for writing in the folder {path.parent}: {words}",
        hint="make the folder yours and writable, or name another file in queue_url: sqlite:PATH",
    )


def _full(path: Path) -> BackendError:
    hint = f"free some space in {shlex.quote(str(path.parent))} and repeat the command"
    return BackendError(f"the queue {path} cannot be written: the disk is full; nothing was changed", hint=hint)


def _short_of(path: Path, words: str) -> BackendError:
    hint = "end some programs, or raise the limit (ulimit -n counts open files), and repeat the command"
    return BackendError(f"the queue {path} cannot be used for now: {words}", hint=hint, transient=True)


def _why_not_opened(path: Path) -> OSError | None:
    """What the system says to whoever opens that many files now, as SQLite keeps it to itself; None if it lets them.

    It is the folder that is opened: to close the file itself would drop the locks that SQLite has on it.
    """
    opened: list[int] = []
    try:
        for _ in range(FILES_OF_A_CONNECTION):
            opened.append(os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 (one may fail)
    except OSError as error:
        return error
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return None
