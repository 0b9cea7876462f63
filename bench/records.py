"""Submission, status, claims and start-up (targets 4, 5, 5b, 6, 7, 8)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.hyperqueue import python_with_hyperqueue, submission_s
from bench.rounds import Home, Target, compare, report, timed
from kubeq.core import wire
from kubeq.core.clock import SystemClock
from kubeq.core.digest import Digest
from kubeq.core.model import Ending, Exit, Job, JobId, NodeName, Policy, PoolId
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.queue.claims import Final, Room
from kubeq.queue.open import open_table
from kubeq.queue.queue import Queue

BIG = Resources(cpu=10_000.0)


def run(rounds: int = 3) -> None:
    """Print the ratios."""
    _processes(rounds)
    _submission(rounds)
    _pairs(rounds)
    _start(rounds)


def _processes(rounds: int, tasks: int = 200) -> None:
    if shutil.which("parallel") is None:
        print("4   skipped: GNU parallel is not installed (apt-get install parallel)")
        return

    def ours() -> None:
        home = Home()
        home.kubeq("-q", "sub", "--local", "-i", "none", "--seq", str(tasks), "true")
        home.remove()

    def theirs() -> None:
        subprocess.run(f"seq {tasks} | parallel -j2 true", shell=True, check=True, stderr=subprocess.DEVNULL)

    compare(f"4   {tasks} x true as processes / GNU parallel", ours, theirs, Target(4, 2), rounds=rounds)


def _submission(rounds: int, tasks: int = 100_000) -> None:
    home, small = Home(), Home()
    table = "x,y\n" + "".join(f"{number},{number * 0.5}\n" for number in range(tasks))
    (home.path / "p.csv").write_text(table)

    def ours() -> None:
        home.kubeq("-q", "sub", "--prepare", "-i", "none", "--params", "p.csv", "true", "{x}", "{y}")

    def floor() -> None:
        path = home.path / "floor.db"
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, state TEXT, due REAL, body TEXT)")
        connection.execute("CREATE INDEX due ON t (state, due)")
        rows = ((number, "pending", 1.0, f'["{number}","{number * 0.5}"]') for number in range(tasks))
        with connection:
            connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
        connection.close()

    compare(f"5   submission of {tasks:,} tasks, whole process / raw SQLite", ours, floor, Target(12, 6), rounds=rounds)
    _hyperqueue(ours, rounds, tasks)
    job = home.kubeq("-q", "status").split()[0]
    few = small.kubeq("-q", "sub", "--prepare", "-i", "none", "--seq", "100", "true").split()[0]
    compare(
        f"7   status of {tasks:,} tasks / of 100",
        lambda: home.kubeq("status", job),
        lambda: small.kubeq("status", few),
        Target(2, 1.2),
        rounds=2 * rounds + 1,
    )
    for one in (home, small):
        one.remove()


def _hyperqueue(ours: Callable[[], None], rounds: int, tasks: int) -> None:
    python = python_with_hyperqueue()
    if python is None:
        print("5b  skipped: hyperqueue could not be installed")
        return
    mine, other = [], []
    for _ in range(rounds):
        other.append(submission_s(python, tasks))
        mine.append(timed(ours))
    report(f"5b  submission of {tasks:,} tasks, whole process / HyperQueue", mine, other, Target(2, 1))


def _pairs(rounds: int, pairs: int = 1500) -> None:
    """Claim and finish, one by one and in batches, durable, through the real Queue."""
    for size, target in ((1, Target(0.3, 0.6, at_least=True)), (10, Target(0.2, 0.5, at_least=True))):
        ours, raw = [], []
        for _ in range(rounds):
            home = Home()
            raw.append(pairs / _raw_pairs(home.path / "raw.db", pairs, size))
            ours.append(pairs / _queue_pairs(home.path / "queue.db", pairs, size))
            home.remove()
        report(f"6   claim + finish a second, batches of {size}, / raw SQLite", ours, raw, target)


def _queue_pairs(path: Path, pairs: int, size: int) -> float:
    queue = Queue(open_table(f"sqlite:{path}"), SystemClock())
    job = Job(
        id=JobId("j"),
        name="j",
        pool=PoolId("p"),
        user="u",
        host="h",
        submitted_at=time.time(),
        total=pairs,
        spec=Digest.of(b""),
        columns=("x",),
        resources=Resources(),
        policy=Policy(),
        results_url="",
    )
    queue.begin(job)
    queue.add_tasks(job, (wire.pending_body(json.dumps([str(number)])) for number in range(pairs)))
    queue.seal(job)
    started = time.perf_counter()
    for _ in range(0, pairs, size):
        grants = queue.claim(PoolId("p"), NodeName("n"), Room(free=BIG, total=BIG, starts=size)).grants
        done = Report(ended_at=time.time(), exit=Exit(code=0))
        queue.finish([Final(grant=grant, ending=Ending.SUCCEEDED, report=done) for grant in grants])
    return time.perf_counter() - started


def _raw_pairs(path: Path, pairs: int, size: int) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, state TEXT)")
    connection.execute("CREATE INDEX by_state ON t (state, id)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?, 'pending')", ((number,) for number in range(pairs)))
    connection.execute("COMMIT")
    started = time.perf_counter()
    for _ in range(0, pairs, size):
        claimed = connection.execute(
            "UPDATE t SET state = 'claimed' WHERE id IN"
            " (SELECT id FROM t WHERE state = 'pending' LIMIT ?) RETURNING id",
            (size,),
        ).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE t SET state = 'done' WHERE id = ? AND state = 'claimed'", claimed)
        connection.execute("COMMIT")
    return time.perf_counter() - started


def _start(rounds: int) -> None:
    home = Home()
    compare(
        "8   kubeq --version / python -c pass",
        lambda: home.kubeq("--version"),
        lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
        Target(10, 6),
        rounds=5 * rounds,
    )
    home.remove()
