"""Jobs with a past, made through the public interfaces of queue and store and without any agent."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kubeq.actions.session import Session
from kubeq.config import load_config
from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.manifest import Entry, Manifest
from kubeq.core.model import (
    Exit,
    Job,
    JobId,
    Node,
    NodeName,
    NodeState,
    Policy,
    PoolId,
    TaskId,
    Usage,
)
from kubeq.core.outcome import Verdict, judge
from kubeq.core.requests import Requests
from kubeq.core.resources import Resources
from kubeq.core.spec import JobSpec, command_of
from kubeq.core.transitions import Report
from kubeq.queue.base import RecordTable
from kubeq.queue.claims import Final, Grant, Room
from kubeq.queue.granting import Granting
from kubeq.queue.memory import MemoryTable
from kubeq.store.base import ObjectStore
from kubeq.store.memory import MemoryStore
from kubeq.store.outputs import OutputFile, ResultDocument, Skipped, result_document

EPOCH = 1_767_323_045.0
"""2026-01-02T03:04:05Z."""
POOL = PoolId("0123456789ab")
NODE = NodeName("0123456789ab-1")


class FakeClock:
    """Wall and monotonic time that stand still until `advance`."""

    def __init__(self) -> None:
        self.wall = EPOCH
        self.steady = 500.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class MemorySession(Session):
    """A session over backends of its own in memory."""

    @cached_property
    def table(self) -> RecordTable:
        return MemoryTable()

    @cached_property
    def store(self) -> ObjectStore:
        return MemoryStore()


def session_in(directory: Path, clock: FakeClock, kind: type[Session] = MemorySession) -> Session:
    """A session whose state folder is below the directory."""
    environ = {"XDG_STATE_HOME": str(directory / "state"), "XDG_CACHE_HOME": str(directory / "cache")}
    config = load_config(
        file=None, profile=None, overrides=(), environ=environ, cwd=directory, home=directory / "nobody"
    )
    return kind(config, clock)


@dataclass
class Work:
    """Makes jobs and lives their lives."""

    session: Session
    clock: FakeClock
    grants: dict[TaskId, Grant] = field(default_factory=dict)
    _jobs: int = 0

    def submit(
        self,
        values: Sequence[Sequence[str]] = ((),),
        columns: Sequence[str] = (),
        *,
        name: str = "demo",
        command: Sequence[str] = ("work",),
        inputs: Mapping[str, bytes] | None = None,
        seal: bool = True,
        written: int | None = None,
        resources: Resources | None = None,
        pool: PoolId = POOL,
        requests: Requests | None = None,
        **policy: Any,
    ) -> Job:
        """A job with a task for each row of values; `written` of them are there if it was interrupted."""
        blobs, queue = self.session.blobs, self.session.queue
        manifest = None
        if inputs is not None:
            entries = [Entry(path, blobs.put_bytes(content)) for path, content in inputs.items()]
            manifest = blobs.put_bytes(Manifest.of(entries).encode())
        resources = resources or Resources()
        spec = JobSpec(
            command=tuple(command),
            columns=tuple(columns),
            image="python:3.12-slim",
            image_digest="sha256:" + "ab" * 32,
            inputs=manifest,
            resources=resources,
            log_limit=10**8,
        )
        self._jobs += 1
        id = JobId(f"20260102-030405-{self._jobs:04d}")
        job = Job(
            id=id,
            name=name,
            pool=pool,
            user="ada",
            host="engine",
            submitted_at=self.clock.now(),
            total=len(values),
            spec=blobs.put_bytes(wire.encode_spec(spec)),
            columns=tuple(columns),
            resources=resources,
            policy=Policy(**policy),
            results_url=self.session.outputs.url_of(id),
        )
        queue.begin(job)
        bodies = [wire.pending_body(json.dumps(list(row)), manifest) for row in values]
        queue.add_tasks(job, bodies[: len(bodies) if written is None else written])
        return queue.seal(replace(job, requests=requests)) if seal and written is None else job

    def claim(self, count: int = 1, *, pool: PoolId = POOL, node: NodeName = NODE) -> list[Grant]:
        """Up to so many tasks of the pool claimed by the node, the oldest first."""
        size = Resources(cpu=float(count), memory=None)
        agent = Granting(self.session.queue._table, self.clock)  # another agent each time, even under one name
        claimed = agent.claim(pool, node, Room(free=size, total=size, starts=count))
        started = agent.renew(claimed.grants, [self.clock.now()] * len(claimed.grants))
        grants = [grant for grant in started if grant is not None]
        self.grants.update({grant.task.id: grant for grant in grants})
        return grants

    def end(
        self,
        grant: Grant,
        exit: Exit | None = None,
        *,
        files: Mapping[str, bytes] | None = None,
        stdout: bytes = b"",
        executable: Sequence[str] = (),
        publish: bool = True,
    ) -> None:
        """The attempt ended that way, with those results stored before."""
        exit = exit or Exit(code=0)
        verdict = judge(exit)
        usage = Usage(wall_s=2.5, cpu_s=1.25, peak_memory_bytes=12_000_000, read_bytes=0, written_bytes=0)
        contents = files or {}
        if publish:
            self._publish(grant, verdict, exit, usage, contents, stdout, executable)
        report = Report(
            ended_at=self.clock.now(),
            exit=exit,
            usage=usage,
            outputs=len(contents) if publish else 0,
            message=verdict.message,
        )
        self.session.queue.finish([Final(grant=grant, ending=verdict.ending, reason=verdict.reason, report=report)])
        self.session.queue.close_if_done(grant.job)

    def run(self, count: int = 1, exit: Exit | None = None, **more: Any) -> list[Grant]:
        """So many tasks claimed and ended alike."""
        grants = self.claim(count)
        for grant in grants:
            self.end(grant, exit, **more)
        return grants

    def report_node(self, **changes: Any) -> Node:
        """The node's row, as an agent that is well writes it."""
        node = Node(
            name=changes.pop("name", NODE),
            pool=changes.pop("pool", POOL),
            number=1,
            provider="local",
            state=changes.pop("state", NodeState.ACTIVE),
            host="engine",
            total=changes.pop("total", Resources(cpu=2.0, memory=4 * 10**9)),
            requested_at=self.clock.now(),
            started_at=self.clock.now(),
            seen_at=self.clock.now(),
            **changes,
        )
        return self.session.queue.report(node)

    def _publish(
        self,
        grant: Grant,
        verdict: Verdict,
        exit: Exit,
        usage: Usage,
        contents: Mapping[str, bytes],
        stdout: bytes,
        executable: Sequence[str],
    ) -> None:
        task, spec = grant.task, wire.decode_spec(self.session.blobs.read(grant.job.spec))
        files = [
            OutputFile(
                path=path, open=partial(io.BytesIO, content), digest=Digest.of(content), executable=path in executable
            )
            for path, content in contents.items()
        ]
        claimed = task.current.claimed_at if task.current else self.clock.now()
        document = result_document(
            ResultDocument(
                task=task.id,
                attempt=grant.attempt,
                parameters=dict(zip(spec.columns, task.values, strict=True)),
                command=command_of(spec, task.values),
                state=verdict.ending,
                reason=verdict.reason,
                message=verdict.message,
                exit=exit,
                usage=usage,
                node=NODE,
                image_digest=spec.image_digest,
                claimed_at=claimed,
                started_at=claimed,
                ended_at=self.clock.now(),
                files=[file.entry for file in files],
                skipped=[Skipped(path="socket", why="it is a socket")] if "with-skipped" in contents else [],
                stdout_size=len(stdout),
            )
        )
        path = Path(self.session.config.state_dir) / "stdout.being-published"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stdout)
        self.session.outputs.publish(task.id, grant.attempt, files, path, document)
