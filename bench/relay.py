"""What the way through a relay costs: claims a second and MB/s, against the same queue and store without it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import time

from bench.rounds import Home, Target, compare
from kubeq.core import wire
from kubeq.core.clock import SystemClock
from kubeq.core.digest import Digest
from kubeq.core.model import Ending, Exit, Job, JobId, NodeName, Policy, PoolId
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.queue.claims import Claims, Final, Room
from kubeq.queue.granting import Granting
from kubeq.queue.open import open_claims
from kubeq.queue.queue import Queue
from kubeq.queue.sqlite import SqliteTable
from kubeq.relay.admissions import Backplane, Guest
from kubeq.relay.home import RelayHome
from kubeq.relay.starting import ensure_relay
from kubeq.relay_wire import Address
from kubeq.store.base import ObjectStore
from kubeq.store.local import LocalStore
from kubeq.store.open import open_store_of_node

POOL, NODE = PoolId("bench"), NodeName("bench-1")
BIG = Resources(cpu=10_000.0)
TASKS, AT_ONCE = 400, 4
SIZE, OBJECTS = 64 * 2**20, 3


class Ends:
    """Both ends of a queue and a store in a folder: what an agent here has, and what a node behind the relay has."""

    def __init__(self, home: Home) -> None:
        state = home.path / "state"
        self.table = SqliteTable(state / "queue.db")
        self.queue = Queue(self.table, SystemClock())
        self.store = LocalStore(state / "store")
        self.jobs = 0
        relay = RelayHome(state)
        here = Backplane(queue_url=f"sqlite:{state}/queue.db", store_url=self.store.url, blobs_url=self.store.url)
        guest = Guest(node=NODE, pool=POOL, number=1, provider="bench", place="here", backplane=here)
        token = relay.admissions.admit(guest, now=time.time())
        self.relay = ensure_relay(state)
        url = Address(path=relay.socket).url
        self.far_claims = open_claims(url, SystemClock(), token.text)
        self.far_store = open_store_of_node(url, token.text)

    def submit(self) -> None:
        self.jobs += 1
        job = Job(
            id=JobId(f"bench-{self.jobs:03d}"),
            name="bench",
            pool=POOL,
            user="u",
            host="h",
            submitted_at=time.time(),
            total=TASKS,
            spec=Digest.of(b""),
            columns=("x",),
            resources=Resources(cpu=1.0),
            policy=Policy(),
            results_url="",
        )
        self.queue.begin(job)
        self.queue.add_tasks(job, [wire.pending_body(json.dumps([str(number)])) for number in range(TASKS)])
        self.queue.seal(job)

    def close(self) -> None:
        os.kill(self.relay.mark.pid, signal.SIGTERM)


def run(rounds: int = 3) -> None:
    """Print the ratios."""
    home = Home()
    ends = Ends(home)
    try:
        compare(
            f"C7  {TASKS} tasks claimed {AT_ONCE} at once and finished / direct",
            lambda: _work(ends, ends.far_claims),
            lambda: _work(ends, Granting(ends.table, SystemClock())),
            Target(4, 2),
            rounds=rounds,
        )
        content = os.urandom(SIZE)
        mb = SIZE * OBJECTS // 2**20
        for name, move in (("written", _write), ("read", _read)):
            compare(
                f"C7  {mb} MiB {name}, checked / direct",
                lambda move=move: move(ends.far_store, content, f"nodes/{NODE}/{time.time_ns()}"),
                lambda move=move: move(ends.store, content, f"nodes/{NODE}/{time.time_ns()}"),
                Target(6, 3),
                rounds=rounds,
            )
    finally:
        ends.close()
        home.remove()


def _work(ends: Ends, claims: Claims) -> None:
    ends.submit()
    done = 0
    while done < TASKS:
        room = Room(free=BIG, total=BIG, starts=AT_ONCE)
        grants = claims.claim(POOL, NODE, room).grants
        report = Report(ended_at=time.time(), exit=Exit(code=0))
        answers = claims.finish([Final(grant=grant, ending=Ending.SUCCEEDED, report=report) for grant in grants])
        done += sum(answer is not None for answer in answers)


def _write(store: ObjectStore, content: bytes, prefix: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    for number in range(OBJECTS):
        store.put(f"{prefix}/{number}", lambda: io.BytesIO(content), SIZE, sha256)


def _read(store: ObjectStore, content: bytes, prefix: str) -> None:
    for number in range(OBJECTS):
        key = f"nodes/{NODE}/read/{number}"
        if not store.stat([key]):
            store.put(key, lambda: io.BytesIO(content), SIZE, hashlib.sha256(content).hexdigest())
        hasher = hashlib.sha256()
        with store.get(key) as stream:
            while piece := stream.read(2**20):
                hasher.update(piece)
