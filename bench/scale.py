"""Many tasks through each kind of queue, and many agents on one pool: `python -m bench scale`.

The cloud queues are their stand-ins here, which are slower than the services and run on this very machine, so the
figures say what kubeq's side and the stand-in take together. TASKS and AGENTS in the environment set the sizes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kubeq.core import wire
from kubeq.core.clock import SystemClock
from kubeq.core.digest import Digest
from kubeq.core.model import Ending, Exit, Job, JobId, NodeName, Policy, PoolId, TaskState
from kubeq.core.resources import Resources
from kubeq.core.transitions import Report
from kubeq.queue.claims import Final, Room
from kubeq.queue.open import open_provisioner, open_table
from kubeq.queue.queue import Queue

ROOT = Path(__file__).parents[1]
POOL = PoolId("scale")
BIG = Resources(cpu=1e6)
AT_ONCE = 16
"""Tasks that an agent claims, and ends, at a time."""
TASKS = int(os.environ.get("TASKS", "100000"))
AGENTS = tuple(int(number) for number in os.environ.get("AGENTS", "1,4,16,64").split(","))
CLAIMED_BY_EACH_NUMBER = int(os.environ.get("CLAIMED", "4000"))
"""Tasks for the rate at each number of agents."""
Opened = Callable[[], Queue]


def run() -> None:
    """Print a table: submission, a count, and claims with their ends a second for each number of agents."""
    print(f"{TASKS:,} tasks; agents claim {AT_ONCE} at a time; load {os.getloadavg()[0]:.1f}", flush=True)
    for name, serving in (
        ("sqlite", _sqlite),
        ("datastore (stand-in)", _datastore),
        ("dynamodb (stand-in)", _dynamodb),
    ):
        with serving() as opened:
            print(f"{name:22} {_measured(opened)}", flush=True)


def _measured(opened: Opened) -> str:
    queue = opened()
    begun = time.perf_counter()
    job = _submit(queue, "whole", TASKS)
    submitted_s = time.perf_counter() - begun
    begun = time.perf_counter()
    counted = sum(queue.outcomes(job.id, consistent=True).values())
    counted_s = time.perf_counter() - begun
    assert counted == TASKS, counted
    rates = [f"{number}: {_rate(opened, number):,.0f}/s" for number in AGENTS]
    return (
        f"submit {submitted_s:.1f} s ({TASKS / submitted_s:,.0f}/s), count {counted_s:.2f} s; "
        f"claim and finish by agents {', '.join(rates)}"
    )


def _submit(queue: Queue, name: str, tasks: int) -> Job:
    job = Job(
        id=JobId(f"20260101-000000-{name}"),
        name=name,
        pool=PoolId(f"{POOL}-{name}"),
        user="u",
        host="h",
        submitted_at=time.time(),
        total=tasks,
        spec=Digest.of(b""),
        columns=("x",),
        resources=Resources(cpu=1.0),
        policy=Policy(),
        results_url="",
    )
    queue.begin(job)
    queue.add_tasks(job, (wire.pending_body(json.dumps([str(number)])) for number in range(tasks)))
    return queue.seal(job)


def _rate(opened: Opened, agents: int) -> float:
    """Tasks a second that so many agents claim and end, each exactly once."""
    queue = opened()
    job = _submit(queue, f"by{agents}", CLAIMED_BY_EACH_NUMBER)
    done = [0] * agents

    def work(number: int) -> None:
        own, node = opened(), NodeName(f"n-{number}")
        while grants := own.claim(job.pool, node, Room(free=BIG, total=BIG, starts=AT_ONCE)).grants:
            report = Report(ended_at=time.time(), exit=Exit(code=0))
            own.finish([Final(grant=grant, ending=Ending.SUCCEEDED, report=report) for grant in grants])
            done[number] += len(grants)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(agents)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    succeeded = sum(
        count
        for outcome, count in queue.outcomes(job.id, consistent=True).items()
        if outcome.state is TaskState.SUCCEEDED
    )
    assert sum(done) == succeeded, (sum(done), succeeded)
    return succeeded / took


@contextmanager
def _sqlite() -> Iterator[Opened]:
    with tempfile.TemporaryDirectory() as folder:
        yield lambda: Queue(open_table(f"sqlite:{folder}/queue.db"), SystemClock())


@contextmanager
def _datastore() -> Iterator[Opened]:
    command = [sys.executable, "-m", "tests.stand_ins.datastore_emulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        told = dict(pair.split("=", 1) for pair in server.stdout.readline().split())
        try:
            with _environment(**told):
                yield lambda: Queue(open_table("datastore://scale-test"), SystemClock())
        finally:
            server.kill()


@contextmanager
def _dynamodb() -> Iterator[Opened]:
    from tests.stand_ins.ministack import emulated

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cloud = stack.enter_context(emulated(folder))
        stack.enter_context(_environment(**cloud.environment))
        url = f"dynamodb://{cloud.environment['AWS_REGION']}/scale"
        provisioner = open_provisioner(url)
        assert provisioner is not None
        for piece in provisioner.survey():
            if not piece.stands:
                provisioner.create(piece)
        yield lambda: Queue(open_table(url), SystemClock())


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
