"""The RecordTable in one SQLite file: for everything that happens on one machine.

One connection a thread, WAL, every commit on disk before it is acknowledged. Partitions are numbered in a table of
their own, so that the keys of a million rows stay small. What is true of the file and not of rows is in `sqlite_file`.
A table object must not be carried across a fork.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from kubeq.core.model import Reach
from kubeq.metering import Meter
from kubeq.queue.base import Change, Cursor, Key, Page, Partition, Row, Standing, Swapped, Tally
from kubeq.queue.sqlite_errors import explain, explain_os_error, replaced
from kubeq.queue.sqlite_file import Inode, Session

PATIENCE_S = 20.0
"""How long a call waits in all before it says who is in the way: a sixth of the default lease."""
POLL_S = 0.005
"""`wait` looks this often (up to twice as long apart) whether another process has committed: 5 us a look."""

INSERT = (
    "INSERT INTO rows (partition, name, version, change_id, tally, claimable_at, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
UPDATE = (
    "UPDATE rows SET version = version + 1, change_id = ?, tally = ?, claimable_at = ?, body = ? "
    "WHERE partition = ? AND name = ? AND version = ?"
)
NUMBER = "SELECT id FROM partitions WHERE text = ?"
COLUMNS = "name, version, change_id, tally, claimable_at, body"
GET = f"SELECT {COLUMNS} FROM rows WHERE partition = ? AND name = ?"
LIST = f"SELECT {COLUMNS} FROM rows WHERE partition = ? AND name > ? ORDER BY name LIMIT ?"
LIST_FIRST = f"SELECT {COLUMNS} FROM rows WHERE partition = ? ORDER BY name LIMIT ?"
DUE = (
    f"SELECT {COLUMNS} FROM rows WHERE partition = ? AND claimable_at <= ? AND (claimable_at, name) > (?, ?) "
    "ORDER BY claimable_at, name LIMIT ?"
)
DUE_FIRST = f"SELECT {COLUMNS} FROM rows WHERE partition = ? AND claimable_at <= ? ORDER BY claimable_at, name LIMIT ?"
COUNT = "SELECT tally, COUNT(*) FROM rows WHERE partition = ? AND tally IS NOT NULL GROUP BY tally"
DELETE = "DELETE FROM rows WHERE partition = ? AND name = ?"


class SqliteTable:
    """The rows of one SQLite file, made when it is first used. Each call is one transaction, whatever it carries."""

    reach: ClassVar[Reach] = Reach.HOST
    batch: ClassVar[int] = 10_000
    """One transaction; its rows are in memory twice (Python's and SQLite's pages), about 20 MB."""

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._path = path
        self._patience_s = patience_s
        self._thread = threading.local()
        self._inode: Inode | None = None
        self._numbers: dict[Partition, int] = {}
        self._committed = threading.Condition()
        self._meter = Meter()

    @property
    def requests(self) -> Mapping[str, int]:
        """Its transactions: `read` and `write`."""
        return self._meter.read()

    def insert(self, rows: Sequence[Row]) -> Sequence[Row | None]:
        """One transaction: all of the batch that can be made is made, or nothing is."""
        if not rows:
            return []
        with self._writing() as connection:
            numbers = {each: self._made(connection, each) for each in {row.key.partition for row in rows}}
            values = ((numbers[key.partition], key.name, *columns) for key, *columns in rows)
            complete = connection.executemany(INSERT, values).rowcount == len(rows)
            standing = () if complete else [_one(connection, numbers[row.key.partition], row.key) for row in rows]
        self._numbers.update(numbers)  # not before they are committed
        if complete:
            return [None] * len(rows)
        return [
            None if there is None or there.change_id == row.change_id else there
            for row, there in zip(rows, standing, strict=True)
        ]

    def get(self, keys: Sequence[Key]) -> Sequence[Row | None]:
        """One snapshot."""
        if not keys:
            return []
        with self._reading() as connection:
            connection.execute("BEGIN")
            return [_one(connection, self._number(connection, key.partition), key) for key in keys]

    def swap(self, changes: Sequence[Change]) -> Sequence[Swapped | Standing]:
        """One transaction."""
        if not changes:
            return []
        with self._writing() as connection:
            return [_swap(connection, self._number(connection, each.key.partition), each) for each in changes]

    def due(self, partition: Partition, before: float, after: Cursor | None, limit: int) -> Page:
        """One range of the `due` index; never stale."""
        if after is None:
            return self._page(DUE_FIRST, partition, (before, limit + 1), due=True)
        return self._page(DUE, partition, (before, after.claimable_at, after.name, limit + 1), due=True)

    def list(self, partition: Partition, after: Cursor | None, limit: int) -> Page:
        """One range of the primary key."""
        if after is None:
            return self._page(LIST_FIRST, partition, (limit + 1,))
        return self._page(LIST, partition, (after.name, limit + 1))

    def count(self, partition: Partition, consistent: bool) -> Mapping[Tally, int]:
        """One pass over the partition's part of the `tallies` index, which holds nothing else; never stale."""
        with self._reading() as connection:
            number = self._number(connection, partition)
            return {Tally(tally): count for tally, count in connection.execute(COUNT, (number,))}

    def delete(self, keys: Sequence[Key]) -> None:
        """One transaction."""
        if not keys:
            return
        with self._writing() as connection:
            known = [(self._number(connection, key.partition), key.name) for key in keys]
            connection.executemany(DELETE, known)

    def clock_offset(self) -> float:
        """Always 0: everybody who can open the file has this machine's clock."""
        return 0.0

    def wait(self, seconds: float) -> None:
        """Sooner if another thread or process committed since this thread's last read or wait."""
        with self._plainly():
            session = self._session()
            deadline = time.monotonic() + seconds
            seen = session.seen if session.seen is not None else session.data_version()
            while (now := session.data_version()) == seen and (left := deadline - time.monotonic()) > 0:
                with self._committed:
                    self._committed.wait(min(left, random.uniform(POLL_S, 2 * POLL_S)))
            session.seen = now

    def _page(self, query: str, partition: Partition, arguments: tuple[Any, ...], *, due: bool = False) -> Page:
        """The page of a query that was asked for one row more than the page may hold."""
        with self._reading() as connection:
            number = self._number(connection, partition)
            found = connection.execute(query, (number, *arguments)).fetchall()
        limit = arguments[-1] - 1
        rows = [Row(Key(partition, name), *columns) for name, *columns in found[:limit]]
        if len(found) <= limit:
            return Page(rows, None)
        return Page(rows, Cursor(rows[-1].claimable_at if due else None, rows[-1].key.name))

    def _number(self, connection: sqlite3.Connection, partition: Partition) -> int | None:
        """The partition's number; None for one that has none yet, and so no rows."""
        if (number := self._numbers.get(partition)) is not None:
            return number
        found = connection.execute(NUMBER, (partition,)).fetchone()
        if found is not None:
            self._numbers[partition] = found[0]
        return None if found is None else int(found[0])

    def _made(self, connection: sqlite3.Connection, partition: Partition) -> int:
        """The partition's number, given out by the open transaction if it had none."""
        if (number := self._number(connection, partition)) is not None:
            return number
        return int(connection.execute("INSERT INTO partitions (text) VALUES (?)", (partition,)).lastrowid or 0)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._plainly():
            session = self._session()
            session.seen = session.data_version()
            self._meter.count("read")
            try:
                yield session.connection
            finally:
                if session.connection.in_transaction:
                    session.connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._plainly():
            session = self._session()
            connection = session.connection
            with session.turn() as left_s:
                session.require_the_same_file()
                session.be_patient_for(left_s)
                connection.execute("BEGIN IMMEDIATE")
                self._meter.count("write")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            with self._committed:
                self._committed.notify_all()

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """No exception of SQLite's or of the operating system's leaves this module."""
        try:
            yield
        except (sqlite3.Error, MemoryError) as error:  # Python's sqlite3 makes a MemoryError of SQLITE_NOMEM
            raise explain(error, self._path) from error
        except OSError as error:
            raise explain_os_error(error, self._path) from error

    def _session(self) -> Session:
        """This thread's connection. All of one object's must be to one file."""
        session: Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = Session(self._path, self._patience_s)
            session.open()
            if self._inode not in (None, session.inodes[0]):
                raise replaced(self._path)
            self._inode = session.inodes[0]
            self._thread.session = session
        return session


def _swap(connection: sqlite3.Connection, number: int | None, change: Change) -> Swapped | Standing:
    key, version, change_id, tally, claimable_at, body = change
    if connection.execute(UPDATE, (change_id, tally, claimable_at, body, number, key.name, version)).rowcount:
        return Swapped(Row(key, version + 1, change_id, tally, claimable_at, body))
    standing = _one(connection, number, key)
    ours = standing is not None and (standing.version, standing.change_id) == (version + 1, change_id)
    return Swapped(standing) if ours and standing else Standing(standing)


def _one(connection: sqlite3.Connection, number: int | None, key: Key) -> Row | None:
    found = connection.execute(GET, (number, key.name)).fetchone()
    return None if found is None else Row(key, *found[1:])
