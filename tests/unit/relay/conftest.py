"""A relay with a queue and a store behind it, jobs with inputs, and nodes that may be honest or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeq.core import wire
from kubeq.core.manifest import Entry, Manifest, Remote
from kubeq.core.model import Job, JobId, NodeName, Policy, PoolId
from kubeq.core.resources import Resources
from kubeq.core.spec import JobSpec
from kubeq.core.wire import Document
from kubeq.queue.claims import Grant, Room
from kubeq.queue.memory import MemoryTable
from kubeq.queue.queue import Queue
from kubeq.queue.relay import RelayClaims
from kubeq.relay_client import RelayClient
from kubeq.relay_wire import Token
from kubeq.store.blobs import Blobs
from kubeq.store.memory import MemoryStore
from kubeq.store.relay import RelayStore
from tests.jobs import FakeClock
from tests.relays import POOL, Served, served

TERM_S = 60.0
BIG = Resources(cpu=64.0, memory=10**12)


class Node:
    """A node with a token: what its agent has, and its bare connection."""

    def __init__(self, relay: Served, name: str, pool: PoolId, token: Token) -> None:
        self.name = NodeName(name)
        self.pool = pool
        self.token = token
        self.claims: RelayClaims = relay.claims(token)
        self.store: RelayStore = relay.store(token)
        self.client: RelayClient = relay.client(token)

    def claim(self, starts: int = 1) -> list[Grant]:
        return list(self.claims.claim(self.pool, self.name, Room(free=BIG, total=BIG, starts=starts)).grants)

    def ask(self, call: str, **document: Any) -> Document:
        """A request as the node likes to make it."""
        return self.client.call(call, document)


class House:
    """Everything on the submitter's machine."""

    def __init__(self, relay: Served, table: MemoryTable, store: MemoryStore, clock: FakeClock) -> None:
        self.relay, self.table, self.objects, self.clock = relay, table, store, clock
        self.queue = Queue(table, clock)
        self.blobs = Blobs(store)
        self._jobs = 0

    def node(self, name: str, pool: PoolId = POOL, place: str = "") -> Node:
        return Node(self.relay, name, pool, self.relay.admit(name, pool, place))

    def submit(
        self,
        tasks: int = 1,
        inputs: Mapping[str, bytes] | None = None,
        *,
        pool: PoolId = POOL,
        image: str | None = None,
        own_inputs: bool = False,
        remotes: Sequence[Remote] = (),
        **policy: Any,
    ) -> Job:
        """A job; with `own_inputs` the manifest is each task's, else the spec's."""
        entries = [Entry(path, self.blobs.put_bytes(content)) for path, content in (inputs or {}).items()]
        listed = Manifest.of(entries, remotes)
        manifest = self.blobs.put_bytes(listed.encode()) if entries or remotes else None
        spec = JobSpec(
            command=("true",),
            columns=("x",),
            image=image,
            inputs=None if own_inputs else manifest,
            resources=Resources(cpu=1.0),
            log_limit=1000,
        )
        self._jobs += 1
        job = Job(
            id=JobId(f"job-{self._jobs}"),
            name="job",
            pool=pool,
            user="u",
            host="h",
            submitted_at=self.clock.now(),
            total=tasks,
            spec=self.blobs.put_bytes(wire.encode_spec(spec)),
            columns=("x",),
            resources=Resources(cpu=1.0),
            policy=Policy(lease_s=TERM_S, **policy),
            results_url="",
        )
        self.queue.begin(job)
        own = manifest if own_inputs else None
        self.queue.add_tasks(job, [wire.pending_body(json.dumps([str(n)]), own) for n in range(tasks)])
        return self.queue.seal(job)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(tmp_path: Path, clock: FakeClock) -> Iterator[House]:
    table, store = MemoryTable(), MemoryStore()
    with served(tmp_path, table, store, clock) as relay:
        yield House(relay, table, store, clock)
