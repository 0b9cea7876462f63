"""Claims a second and the longest wait for one, by number of processes, on the SQLite table itself.

`python bench/claims.py [--seconds 4] [--processes 1 4 16]`: prints one line for the table with its fair turn and, side
by side, one for the same statements with nothing but SQLite's own waiting in front of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

from kubeq.queue.base import Change, Key, Partition, Row, Swapped, Tally
from kubeq.queue.sqlite import SqliteTable

PARTITION = Partition("tasks:bench")
CLAIMED = Tally("claimed")
BODY = '{"schema":1,"state":"pending","values":["0.25","-0.5","12"]}'
PENDING_AT = 1000.0
LEASE_END = 1e12
CANDIDATES = 16

Claim = Callable[[], bool]


def fill(path: Path, rows: int) -> None:
    """A table of pending rows."""
    table = SqliteTable(path)
    for start in range(0, rows, table.batch):
        stop = min(start + table.batch, rows)
        table.insert(
            [
                Row(Key(PARTITION, f"{index:08d}"), 1, secrets.token_hex(16), Tally("pending"), PENDING_AT, BODY)
                for index in range(start, stop)
            ]
        )


def with_turns(path: Path) -> Claim:
    """A claim through SqliteTable: due, pick at random, swap."""
    table = SqliteTable(path)

    def claim() -> bool:
        while rows := table.due(PARTITION, PENDING_AT, None, CANDIDATES).rows:
            row = random.choice(rows)
            change = Change(row.key, row.version, secrets.token_hex(16), CLAIMED, LEASE_END, BODY)
            if isinstance(table.swap([change])[0], Swapped):
                return True
        return False

    return claim


def without_turns(path: Path) -> Claim:
    """The same statements in BEGIN IMMEDIATE, with SQLite's busy handler as the only order."""
    connection = sqlite3.connect(path, timeout=60.0, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    number = connection.execute("SELECT id FROM partitions WHERE text = ?", (PARTITION,)).fetchone()[0]
    due = "SELECT name, version FROM rows WHERE partition = ? AND claimable_at <= ? ORDER BY claimable_at, name LIMIT ?"
    update = (
        "UPDATE rows SET version = version + 1, change_id = ?, tally = ?, claimable_at = ?, body = ? "
        "WHERE partition = ? AND name = ? AND version = ?"
    )

    def claim() -> bool:
        while rows := connection.execute(due, (number, PENDING_AT, CANDIDATES)).fetchall():
            name, version = random.choice(rows)
            connection.execute("BEGIN IMMEDIATE")
            values = (secrets.token_hex(16), CLAIMED, LEASE_END, BODY, number, name, version)
            won = connection.execute(update, values).rowcount
            connection.execute("COMMIT")
            if won:
                return True
        return False

    return claim


WAYS = {"fair turn": with_turns, "busy handler": without_turns}


def contend(way: str, path: Path, seconds: float, start: Barrier, answers: multiprocessing.Queue[list[float]]) -> None:
    """Claim for some seconds; answers how long each claim took."""
    claim = WAYS[way](path)
    waits: list[float] = []
    start.wait()
    end = time.monotonic() + seconds
    while (before := time.monotonic()) < end and claim():
        waits.append(time.monotonic() - before)
    answers.put(waits)


def measure(way: str, processes: int, seconds: float) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue"
        fill(path, int(6000 * seconds))
        context = multiprocessing.get_context("spawn")
        start, answers = context.Barrier(processes), context.Queue()
        workers = [context.Process(target=contend, args=(way, path, seconds, start, answers)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        waits = [answers.get() for _ in workers]
        for worker in workers:
            worker.join()
    numbers = sorted(len(each) for each in waits)
    every = sorted(wait for each in waits for wait in each)
    p99 = every[int(len(every) * 0.99)] * 1000
    return (
        f"{processes:9d}  {way:12s}  {sum(numbers) / seconds:8.0f}  {p99:8.1f}  {every[-1] * 1000:10.1f}"
        f"  {numbers[0]} / {numbers[-1]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()
    print("processes  way           claims/s  p99 (ms)  worst (ms)  fewest / most of one process")
    for processes in arguments.processes:
        for way in WAYS:
            print(measure(way, processes, arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
