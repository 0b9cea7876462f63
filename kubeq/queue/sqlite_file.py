"""The file under the SQLite table: opening and refusing it, taking turns at writing it.

Nothing here knows what a row is; the statements are in `sqlite`, its errors in our words in `sqlite_errors`.
"""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

from kubeq.errors import BackendError, VersionMismatch
from kubeq.machine import network_file_system
from kubeq.queue.sqlite_errors import damaged, denied, explain_os_error, replaced

SCHEMA = 1
APPLICATION = 0x6B756271
"""`kubq` in ASCII, in the file's header (SQLite: "Database File Format", application id)."""
TABLES = (
    "CREATE TABLE partitions (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE rows (partition INTEGER NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, "
    "change_id TEXT NOT NULL, tally TEXT, claimable_at REAL, body TEXT NOT NULL, "
    "PRIMARY KEY (partition, name)) WITHOUT ROWID",
    "CREATE INDEX due ON rows (partition, claimable_at, name) WHERE claimable_at IS NOT NULL",
    "CREATE INDEX tallies ON rows (partition, tally) WHERE tally IS NOT NULL",
)
LONGEST_PAUSE_S = 0.002
"""Between two tries to get the turn: a durable commit takes about as long."""

Inode = tuple[int, int]


class Session:
    """One thread's connection to the file, and its place among those who write it. Closes itself when dropped."""

    def __init__(self, path: Path, patience_s: float) -> None:
        self.path = path
        self.patience_s = patience_s
        self.connection: sqlite3.Connection
        self.inodes: tuple[Inode, Inode]
        self.seen: int | None = None
        self._lock = -1
        self._timeout_ms = -1

    def open(self) -> None:
        """Connect, making the file if there is none. Raises BackendError for a file that must not be used, and
        what SQLite and the system raise."""
        _require_a_folder_of_this_machine(self.path.parent)
        if self.path.exists() and not self.path.is_file():
            raise BackendError(f"the queue {self.path} is no file", hint="name one in queue_url: sqlite:PATH")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._lock = os.open(f"{self.path}.lock", flags, 0o600)
        except FileNotFoundError as error:  # the folder stands: it is one of those in which nobody can make anything
            raise denied(self.path, f"nothing can be made there ({error.strerror})") from error
        if self.path.exists():
            self._connect()
        if not hasattr(self, "connection") or self._number("user_version") == 0:  # another may have made it just now
            with self.turn():
                self._create()
        self._require_our_schema()
        self._check_after_an_unclean_end()
        self.connection.execute("SELECT 1 FROM partitions LIMIT 1").fetchone()  # the first read makes the -wal file
        self.inodes = self._standing()

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
        if self._lock >= 0:
            os.close(self._lock)

    @contextmanager
    def turn(self) -> Iterator[float]:
        """A time in which no other kubeq writes; gives the seconds of patience that are left. SQLite's own waiting lets
        one process win for seconds (measured: 3.7 s with 16); tries at short random intervals give everybody the same
        chance."""
        deadline = time.monotonic() + self.patience_s
        while not _flocked(self._lock):
            if time.monotonic() > deadline:
                raise self._locked()
            time.sleep(random.uniform(LONGEST_PAUSE_S / 10, LONGEST_PAUSE_S))
        try:
            yield max(0.0, deadline - time.monotonic())
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def be_patient_for(self, seconds: float) -> None:
        """How long SQLite waits from now on where another program is in the way."""
        timeout_ms = ceil(seconds * 20) * 50  # so coarse that it is seldom another one
        if timeout_ms != self._timeout_ms:
            self.connection.execute(f"PRAGMA busy_timeout = {timeout_ms}")
            self._timeout_ms = timeout_ms

    def require_the_same_file(self) -> None:
        """Raise BackendError if the file that is open here is no longer the one that stands under its name."""
        if self._standing() != self.inodes:
            raise replaced(self.path)

    def data_version(self) -> int:
        """A number that changes when another connection commits."""
        return self._number("data_version")

    def _connect(self) -> None:
        address = f"{self.path.absolute().as_uri()}?mode=rw"  # never makes a file: _create does, with its mode
        self.connection = sqlite3.connect(
            address, uri=True, timeout=self.patience_s, isolation_level=None, check_same_thread=False
        )
        self.connection.execute("PRAGMA synchronous = FULL")

    def _create(self) -> None:
        """The tables, in a file that only its owner can read. Called in turn, so that one process does it."""
        if not self.path.exists():
            if not _locked_range(self._lock, fcntl.F_WRLCK):
                raise BackendError(
                    f"the queue {self.path} was deleted while other processes use it",
                    hint="stop every kubeq that uses it before starting a new one",
                )
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if not hasattr(self, "connection"):
            self._connect()
        if self._number("user_version") != 0:
            return
        if self.connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            raise self._foreign()
        self.connection.execute("PRAGMA journal_mode = WAL")
        tables = ";".join(TABLES)
        numbers = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}"
        self.connection.executescript(f"BEGIN IMMEDIATE; {tables}; {numbers}; COMMIT")

    def _require_our_schema(self) -> None:
        if self._number("application_id") != APPLICATION:
            raise self._foreign()
        if (schema := self._number("user_version")) > SCHEMA:
            raise VersionMismatch(
                f"the queue {self.path} has schema {schema}; this kubeq reads up to {SCHEMA}",
                hint="install a newer kubeq",
            )

    def _check_after_an_unclean_end(self) -> None:
        """Read every page if the last user left without closing. A shared lock on the side file tells who is there."""
        alone = _locked_range(self._lock, fcntl.F_WRLCK)
        wal = Path(f"{self.path}-wal")
        if alone and wal.exists() and wal.stat().st_size:
            answer = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if answer != "ok":
                raise damaged(self.path, answer)
        _locked_range(self._lock, fcntl.F_RDLCK, wait=True)

    def _standing(self) -> tuple[Inode, Inode]:
        try:
            file, wal = os.stat(self.path), os.stat(f"{self.path}-wal")  # noqa: PTH116 (twice as fast as Path.stat)
        except FileNotFoundError as error:
            raise replaced(self.path) from error
        return (file.st_dev, file.st_ino), (wal.st_dev, wal.st_ino)

    def _number(self, pragma: str) -> int:
        return int(self.connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def _foreign(self) -> BackendError:
        return BackendError(
            f"the file {self.path} is an SQLite database, but not a kubeq queue",
            hint="name another file in queue_url: sqlite:PATH",
        )

    def _locked(self) -> BackendError:
        holder = _holder(os.fstat(self._lock))
        who = f"process {holder}" if holder else "another process"
        return BackendError(
            f"the queue {self.path} has been locked by {who} for {self.patience_s:g} s",
            hint=f"see what it does: ps -fp {holder}" if holder else "end the program that has the file open",
            transient=True,
            waited=True,
        )


def _require_a_folder_of_this_machine(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = network_file_system(folder)
    except OSError as error:
        raise explain_os_error(error, folder / "queue") from error
    if kind is not None:
        raise BackendError(
            f"the queue cannot live in {folder}: it is on a network file system ({kind}), where SQLite loses writes",
            hint="name a folder on a disk of this machine in queue_url: sqlite:PATH",
        )


def _flocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked_range(descriptor: int, kind: int, *, wait: bool = False) -> bool:
    """Lock the side file for this open file, independent of its flock (fcntl(2), "Open file description locks")."""
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(descriptor, command, struct.pack("hhqqi", kind, os.SEEK_SET, 0, 1, 0))
    except BlockingIOError:
        return False
    return True


def _holder(side_file: os.stat_result) -> int | None:
    """The process that has the turn, as /proc/locks tells it."""
    inode = f":{side_file.st_ino}"
    locks = Path("/proc/locks")
    for line in locks.read_text().splitlines() if locks.exists() else ():
        words = line.split()
        if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and words[5].endswith(inode) and int(words[4]) > 0:
            return int(words[4])
    return None
