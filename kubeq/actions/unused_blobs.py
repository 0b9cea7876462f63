"""Blobs that no job or pool refers to any more: finding and removing them without breaking a submission on its way.

A store cannot say how old a blob is, so a blob is removed only when it was found unused at least `GRACE_S` ago and is
unused still; when it was found first is kept in the state folder. The row of a submission stands in the queue before
it asks which blobs are missing, so while there is an incomplete job nothing is removed at all. Looking for new rows and
removing is one step, for which submissions from this machine wait; every submission asks again before it is sealed.

Only the jobs of this queue are known here: a store that two queues share must not be cleaned through either.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubeq.actions.session import Session
from kubeq.actions.submit_lock import one_at_a_time
from kubeq.core.digest import Digest
from kubeq.core.model import Job, JobId
from kubeq.core.overlay import Overlay
from kubeq.core.wire import decode_outfit, decode_spec
from kubeq.errors import Conflict, ObjectNotFound
from kubeq.queue.swaps import batches
from kubeq.store.disk import disk_errors

GRACE_S = 7 * 86400.0
"""Longer than any pause between two submissions that use the same files on purpose."""
BATCH = 1000
"""Blobs removed between two looks at whether a submission has begun."""
MARKS = "unused-blobs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedBlobs:
    """`ripe` may be removed now; `young` were not unused for long enough yet. `jobs` are those that were looked at."""

    ripe: tuple[Digest, ...]
    young: tuple[Digest, ...]
    jobs: frozenset[JobId]


def find_unused(session: Session, *, grace_s: float = GRACE_S) -> UnusedBlobs:
    """The blobs that no job or pool refers to; notes those that were not known to be unused before.

    Raises Conflict while a job is incomplete, VersionMismatch if a newer kubeq wrote one: what they refer to cannot be
    known.
    """
    jobs = session.queue.jobs(session.queue.entries(strict=True), strict=True)
    for job in jobs:
        _refuse_incomplete(job)
    used = {digest for job in jobs for digest in blobs_of(session, job)}
    used |= _of_pools(session)
    unused = sorted(digest for digest in session.blobs.stored() if digest not in used)
    now = session.clock.now()
    since = _note(session, unused, now)
    ripe = tuple(digest for digest in unused if now - since[str(digest)] >= grace_s)
    young = tuple(digest for digest in unused if now - since[str(digest)] < grace_s)
    return UnusedBlobs(ripe=ripe, young=young, jobs=frozenset(job.id for job in jobs))


def remove_unused(session: Session, unused: UnusedBlobs) -> int:
    """Remove the ripe ones; how many bytes that were. Raises Conflict as soon as a new submission has begun."""
    removed = 0
    for batch in batches(unused.ripe, BATCH):
        with one_at_a_time(session):
            _refuse_new(session, unused.jobs)
            gone = set(batch) - _of_pools(session)
            session.blobs.delete(gone)
        removed += sum(digest.size for digest in gone)
    return removed


def _of_pools(session: Session) -> set[Digest]:
    """What machines that come up may still ask for."""
    pools = session.queue.pools()
    found = {digest for pool in pools for digest in pool.archives}
    for outfit in {pool.outfit for pool in pools if pool.outfit is not None}:
        found |= {outfit, *_worn(session, outfit)}
    for content in {package.content for pool in pools for package in pool.packages}:
        found |= {content, *_laid(session, content)}
    return found


def _worn(session: Session, outfit: Digest) -> Iterator[Digest]:
    """All that an outfit refers to; nothing for one of another store, or that was not stored yet."""
    with suppress(ObjectNotFound):
        overlay = decode_outfit(session.blobs.read(outfit)).overlay
        if overlay is not None:
            yield overlay
            yield from _laid(session, overlay)


def _laid(session: Session, overlay: Digest) -> Iterator[Digest]:
    """The files of an overlay; none for one of another store."""
    with suppress(ObjectNotFound):
        yield from Overlay.decode(session.blobs.read(overlay)).digests


def _refuse_new(session: Session, known: Collection[JobId]) -> None:
    for entry in session.queue.entries(strict=True):
        if entry.id not in known:
            raise Conflict(
                f"no more blobs were removed: job {entry.id} ({entry.name}) was submitted meanwhile",
                hint="run kubeq clean --blobs again",
            )


def _refuse_incomplete(job: Job) -> None:
    if job.sealed_at is None:
        raise Conflict(
            f"blobs cannot be cleaned while job {job.id} ({job.name}) is incomplete: it may be on its way",
            hint=f"kubeq resume {job.id} completes it, kubeq clean {job.id} --force removes it",
        )


def blobs_of(session: Session, job: Job) -> Iterator[Digest]:
    """All that a job refers to: its spec, its manifests, the files in them; nothing for a job of another store."""
    try:
        spec = decode_spec(session.blobs.read(job.spec))
    except ObjectNotFound:
        if job.results_url.startswith(f"{session.store.url}/"):
            raise
        return
    yield job.spec
    shared = spec.inputs
    tasks = session.queue.tasks(job.id, strict=True) if shared is None else ()
    manifests = {shared} if shared is not None else {task.inputs for task in tasks if task.inputs}
    for manifest in manifests:
        yield manifest
        yield from (entry.digest for entry in session.blobs.read_manifest(manifest).entries)


def _note(session: Session, unused: Sequence[Digest], now: float) -> Mapping[str, float]:
    """Since when each of them is known to be unused; what is used again is forgotten."""
    path = Path(session.config.state_dir) / MARKS
    before = _read_marks(path, session.inputs_store.url)
    since = {str(digest): min(now, before.get(str(digest), now)) for digest in unused}
    with disk_errors("write", bytes(path)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f"{MARKS}.new")
        temporary.write_text(json.dumps({"schema": 1, "store": session.inputs_store.url, "since": since}))
        temporary.replace(path)
    return since


def _read_marks(path: Path, store: str) -> Mapping[str, float]:
    """What was noted for that store; nothing where there is no readable note, which only makes the wait begin anew."""
    try:
        document = json.loads(path.read_text())
        return {str(name): float(at) for name, at in document["since"].items()} if document["store"] == store else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
