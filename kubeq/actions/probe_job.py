"""A job of one small task, submitted, run by a node that is started for it, read and removed: does all of it work?

Its journal, draft and node files lie in a folder of their own that goes with it, so LAST stays what it was and no
other agent is disturbed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from kubeq.actions.aborting import stop_nodes
from kubeq.actions.cleaning import clean_job, plan_clean
from kubeq.actions.launching import ensure_nodes
from kubeq.actions.logs import read_output
from kubeq.actions.naming import private_pool_id
from kubeq.actions.plan import make_plan
from kubeq.actions.preflight import preflight
from kubeq.actions.session import Session
from kubeq.actions.status import standing_nodes
from kubeq.actions.submit import Silent, submit
from kubeq.actions.unused_blobs import blobs_of
from kubeq.actions.waiting import follow
from kubeq.config import with_flags
from kubeq.core.model import Ending, Job, JobStatus, Pool, Task
from kubeq.core.quantities import format_duration
from kubeq.errors import BackendError, KubeqError
from kubeq.nodes.base import NodeProvider
from kubeq.store.disk import disk_errors

PATIENCE_S = 900.0
"""For a machine to come up and to pull a large image."""
TROUBLE_S = 20.0
"""How long a node may say that it cannot work now before it is believed."""
MOST_TRIES = 2
"""Of a node that gives the task back, which it does for its own troubles."""
WORD = "word"
"""The name of the probe's one input."""


class _Begun(Silent):
    """Remembers the job of a submission, also of one that fails half-way."""

    job: Job | None = None

    def begun(self, job: Job) -> None:
        self.job = job


def run_probe_job(session: Session, provider: NodeProvider | None = None) -> str:
    """What there is to tell of the task, which has run to its end on a node of the provider (the configuration's).

    It has one input, and prints it. Raises KubeqError saying how far it came; then too nothing is left.
    """
    with _apart(session) as probing:
        if provider is not None:
            vars(probing)["provider"] = provider
        word = probing.config.state_dir.parent / WORD
        word.write_text(f"kubeq-check-{token_hex(8)}\n")
        plan = make_plan(("cat", WORD), probing.config, probing.provider)
        pinned = preflight(probing, plan).pinned
        pool, begun = _pool(probing), _Begun()
        try:
            job = submit(probing, plan, pool, pinned=pinned, report=begun).job
            ensure_nodes(probing, pool)
            took_s = _wait(probing, job)
            _check_output(probing, job, word.read_bytes())
        except BaseException:
            if begun.job is not None:
                with suppress(KubeqError):  # what came before is what there is to tell
                    _remove(probing, begun.job)
            raise
        _remove(probing, job)
        return f"a task was run within {format_duration(took_s)}"


def _pool(session: Session) -> Pool:
    """A pool of the configuration's own kind of nodes that no other job is ever in."""
    now = session.clock.now()
    name, hosts = session.provider.name, session.hosts
    return session.adopt(Pool(id=private_pool_id(), provider=name, private=True, created_at=now, hosts=hosts))


@contextmanager
def _apart(session: Session) -> Iterator[Session]:
    """The same configuration with a state folder that does not outlive the block, and none of the user's options."""
    folder = session.config.state_dir
    with disk_errors("write", bytes(folder)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="check-", dir=folder, ignore_cleanup_errors=True) as name:
        flags = {"name": "kubeq-check", "upload": [f"{name}/{WORD}:{WORD}"]}
        config = replace(with_flags(session.config, flags), **_PLAIN, state_dir=Path(name) / "s")
        config.state_dir.mkdir()
        yield session.beside(config)


_PLAIN: dict[str, Any] = {
    "local": False, "params": (), "seq": None, "stdin": False, "shell": False, "cd": ".", "fetch": None,
    "results": (), "ignore": (), "env": (), "env_file": (), "mount": (), "entrypoint": None, "timeout_s": None,
    "resources": None, "retries": 0, "prepare": False, "dry_run": False,
}  # fmt: skip
"""Of the options of `sub` only those for the container stay: image, runtime, user, network."""


def _wait(session: Session, job: Job) -> float:
    """Seconds until the task had succeeded. Raises BackendError saying why it has not."""
    alone, troubled_at = False, float("inf")
    for tick in follow(session, job):
        if tick.ended:
            if tick.status is not JobStatus.SUCCEEDED:
                raise BackendError(f"the task of the node that was started did not succeed: {_why(session, job)}")
            return tick.elapsed_s
        died = tick.nodes.dead[-1] if tick.nodes.dead and not tick.nodes.live else None
        if died is not None and alone:
            raise BackendError(f"the node {died.name} has ended before its task: {died.reason or 'it left no reason'}")
        alone = died is not None  # a node leaves as soon as its task is done, which the next tick will say
        given_back = [attempt for attempt in _task(session, job).attempts if attempt.ending is Ending.RELEASED]
        if len(given_back) >= MOST_TRIES:
            raise BackendError(f"the node {given_back[-1].node} gave the task back: {given_back[-1].message}")
        troubles = standing_nodes(session, job.pool).troubles
        troubled_at = min(troubled_at, tick.elapsed_s) if troubles else float("inf")
        if tick.elapsed_s - troubled_at > TROUBLE_S:
            raise BackendError(f"the node cannot run the task: {troubles[0]}")
        if tick.elapsed_s > PATIENCE_S:
            raise BackendError(f"no node has run the task within {format_duration(PATIENCE_S)}")
    raise AssertionError("following a job ends with a last tick")


def _task(session: Session, job: Job) -> Task:
    return session.queue.tasks_at(job.id, [1])[0]


def _why(session: Session, job: Job) -> str:
    task = _task(session, job)
    return (task.current.message if task.current else None) or str(task.reason or task.state)


def _check_output(session: Session, job: Job, word: bytes) -> None:
    printed = b"".join(piece.content for piece in read_output(session, _task(session, job)))
    if printed != word:
        said = printed[:200].decode(errors="replace")
        raise BackendError(f"the task has printed {said!r}, not the word that it was given")


def _remove(session: Session, job: Job) -> None:
    """Nothing of it is left: its node is stopped, its records, results and inputs removed."""
    with suppress(KubeqError):
        stop_nodes(session, job.pool)
    blobs = [job.spec]
    with suppress(KubeqError):
        blobs = list(blobs_of(session, job))
    try:
        for summary in plan_clean(session, [job.id], force=True).jobs:
            clean_job(session, summary, results=True)
    finally:
        session.blobs.delete(blobs)
