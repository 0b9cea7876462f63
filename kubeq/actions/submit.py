"""A submission: from a plan to a sealed job. Expanding and checking is in `plan`, nodes are in `launching`.

The order is the promise: the id is journaled before the first write; the job's row stands, unsealed, before the store
is asked what is missing; bytes come before the records that name them; the store is asked again whether it still has
them, for one that was cleaned meanwhile; the seal comes last. Any step may be repeated.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from json.encoder import encode_basestring
from pathlib import Path
from typing import BinaryIO, Protocol

from kubeq.actions.digests import DigestCache
from kubeq.actions.drafts import Draft, drop_draft, drop_stale_drafts, write_draft
from kubeq.actions.existing import IfExists, standing_job
from kubeq.actions.hooks import keep_hooks
from kubeq.actions.inputs import manifest_of
from kubeq.actions.journal import Step, journal_of
from kubeq.actions.naming import new_job_id
from kubeq.actions.outfits import Dressing
from kubeq.actions.plan import Plan
from kubeq.actions.session import Session
from kubeq.actions.submit_lock import one_at_a_time
from kubeq.actions.trees import Source
from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.manifest import Remote
from kubeq.core.model import Job, Pool
from kubeq.core.spec import JobSpec
from kubeq.errors import Conflict, IntegrityError, NotFound, UsageError
from kubeq.store.blobs import hash_file
from kubeq.store.parallel import THREADS


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What of the user's files is sent, and how many files the store had already."""

    files: int = 0
    size: int = 0
    already: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that is sealed. `created` is False if an equal one stood there already and nothing was stored."""

    job: Job
    created: bool
    upload: Upload = Upload()


class Report(Protocol):
    """What a submission tells while it is made; may be called from several threads, never from two at once."""

    def hashed(self, files: int, size: int) -> None:
        """So many files and bytes have a digest now."""
        ...

    def begun(self, job: Job) -> None:
        """The id is chosen and journaled; nothing was written yet."""
        ...

    def uploading(self, upload: Upload) -> None:
        """What is about to be sent."""
        ...

    def sent(self, size: int) -> None:
        """So many more bytes were sent, those of the spec and of manifests among them."""
        ...


class Silent:
    """A Report that nobody reads."""

    def hashed(self, files: int, size: int) -> None: ...
    def begun(self, job: Job) -> None: ...
    def uploading(self, upload: Upload) -> None: ...
    def sent(self, size: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the plan comes to once its files have digests: the spec, every document, the rows."""

    spec: JobSpec
    documents: tuple[bytes, ...]
    sources: Mapping[Digest, Path]
    manifests: tuple[Digest, ...] | None
    """The manifest of each task, for tasks that do not share one."""

    def inputs_of(self, position: int) -> Digest | None:
        """The manifest of the task at that position, counted from 0, if it has one of its own."""
        return None if self.manifests is None else self.manifests[position]


def submit(
    session: Session,
    plan: Plan,
    pool: Pool,
    *,
    if_exists: IfExists | None = None,
    pinned: str | None,
    report: Report | None = None,
) -> Submitted:
    """The sealed job of a plan, in that pool; or the equal one that `if_exists` prefers.

    `pinned` is the image by its digest, as `preflight` found it.
    """
    report = report or Silent()
    cache = DigestCache(session.config.cache_dir / "digests.db")
    digests = cache.digests_of(plan.inputs.paths(), threads=THREADS, progress=report.hashed)
    contents = contents_of(plan, digests, pinned, session.dressing)
    with one_at_a_time(session):
        standing = standing_job(session, plan, contents.spec, contents.inputs_of, if_exists)
        if standing is not None:
            return Submitted(job=standing, created=False)
        drop_stale_drafts(session)
        job = _new_job(session, plan, contents, pool)
        journal_of(session).write(job.id, Step.BEGUN, job.name, job.submitted_at)
        if session.config.notify:
            keep_hooks(session, job.id)
        report.begun(job)
        draft = write_draft(session, job, contents.documents, contents.sources, _bodies(plan, contents))
        if pool.outfit is not None:
            session.queue.make_pool(pool)
        begin(session, draft)
    return complete(session, draft, report)


def contents_of(plan: Plan, digests: Mapping[Path, Digest], pinned: str | None, dressing: Dressing | None) -> Contents:
    """The spec, the manifests, what nodes are dressed with.

    Raises UsageError where two inputs cannot stand side by side.
    """
    inputs, made = plan.inputs, _Manifests(digests, plan.inputs.remotes)
    shared, own = None, None
    if inputs.per_task is not None:
        own = tuple(made.digest_of((*inputs.shared, *sources)) for sources in inputs.per_task)
    elif inputs.shared or inputs.remotes:
        shared = made.digest_of(inputs.shared)
    spec = replace(plan.spec, image_digest=pinned, inputs=shared)
    return Contents(
        spec=spec,
        documents=(wire.encode_spec(spec), *made.documents, *(dressing.documents if dressing else ())),
        sources={digest: path for path, digest in digests.items()} | dict(dressing.sources if dressing else {}),
        manifests=own,
    )


class _Manifests:
    """One manifest for each distinct set of inputs; what is elsewhere is in each."""

    def __init__(self, digests: Mapping[Path, Digest], remotes: tuple[Remote, ...]) -> None:
        self._digests = digests
        self._remotes = remotes
        self._known: dict[tuple[Source, ...], Digest] = {}
        self.documents: list[bytes] = []

    def digest_of(self, sources: tuple[Source, ...]) -> Digest:
        digest = self._known.get(sources)
        if digest is None:
            content = manifest_of(sources, self._digests, self._remotes).encode()
            digest = self._known[sources] = Digest.of(content)
            self.documents.append(content)
        return digest


def begin(session: Session, draft: Draft) -> Job:
    """The unsealed row of the draft's job, written unless it stands there. Raises Conflict if the id is taken."""
    standing = session.queue.begin(draft.job)
    if (standing.user, standing.host, standing.submitted_at) != (
        draft.job.user,
        draft.job.host,
        draft.job.submitted_at,
    ):
        raise Conflict(f"the job id {draft.job.id} is taken by another submission", hint="submit again")
    return standing


def complete(session: Session, draft: Draft, report: Report | None = None) -> Submitted:
    """The job of a draft whose row stands, with all its bytes and rows, sealed. Safe to repeat, also at the same time.

    Raises Conflict naming a file that has changed since it was hashed, NotFound if the job was removed meanwhile.
    """
    job = draft.job
    upload, found = _send(session, draft, report or Silent())
    try:
        session.queue.add_tasks(job, draft.bodies())
    except FileNotFoundError:  # somebody else has completed it, and the draft is gone
        sealed = session.queue.refresh(job)
        if sealed.sealed_at is None:
            raise Conflict(f"the draft of job {job.id} has vanished", hint=f"kubeq clean {job.id} --force") from None
        return Submitted(job=sealed, created=True, upload=upload)
    if found and session.blobs.missing(found):
        _send(session, draft, Silent())  # a `clean --blobs` elsewhere did not see this job before it removed them
    try:
        sealed = session.queue.seal(replace(job, requests=session.requests))
    except NotFound:
        drop_draft(session, job.id)
        raise
    journal_of(session).write(job.id, Step.SEALED, job.name, session.clock.now())
    drop_draft(session, job.id)
    return Submitted(job=sealed, created=True, upload=upload)


def _send(session: Session, draft: Draft, report: Report) -> tuple[Upload, frozenset[Digest]]:
    """What of the draft's bytes the store did not have, sent; and what it had already.

    Also where nothing is to be sent there is a batch: its end makes durable what another submission has just put.
    """
    documents = {Digest.of(document): document for document in draft.documents}
    missing = session.blobs.missing([*documents, *draft.sources])
    files = {digest: path for digest, path in draft.sources.items() if digest in missing}
    upload = Upload(
        files=len(files), size=sum(digest.size for digest in files), already=len(draft.sources) - len(files)
    )
    report.uploading(upload)
    opens: dict[Digest, Callable[[], BinaryIO]] = {
        digest: partial(io.BytesIO, document) for digest, document in documents.items() if digest in missing
    }
    opens |= {digest: partial(_open, path) for digest, path in files.items()}
    try:
        session.blobs.upload(opens, progress=report.sent)
    except (IntegrityError, UsageError) as error:
        raise _changed(session, draft, files) or error from error
    return upload, frozenset((*documents, *draft.sources)) - missing


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _changed(session: Session, draft: Draft, files: Mapping[Digest, Path]) -> Conflict | None:
    """The error that names the file which is not what it was when it was hashed; None if there is none such."""
    for digest, path in files.items():
        try:
            same, why = hash_file(path) == digest, "has changed"
        except UsageError as error:
            same, why = False, f"cannot be read any more ({error.message})"
        if not same:
            return Conflict(
                f"job {draft.job.id} was not submitted: {path} {why} since it was begun",
                hint=f"kubeq clean {draft.job.id} --force removes what there is of it; then submit again",
            )
    return None


def _new_job(session: Session, plan: Plan, contents: Contents, pool: Pool) -> Job:
    now = session.clock.now()
    id = new_job_id(now)
    return Job(
        id=id,
        name=plan.name,
        pool=pool.id,
        user=session.user,
        host=session.host,
        submitted_at=now,
        total=plan.total,
        spec=Digest.of(contents.documents[0]),
        columns=contents.spec.columns,
        resources=contents.spec.resources,
        policy=plan.policy,
        results_url=session.outputs.url_of(id),
        nodes=session.config.nodes,
    )


def _bodies(plan: Plan, contents: Contents) -> Iterator[str]:
    """The bodies of the task rows, written without building a Task."""
    if plan.table is None:
        yield wire.pending_body("[]", contents.inputs_of(0))
        return
    rows = (f"[{','.join(map(encode_basestring, row))}]" for row in plan.table.rows)
    if contents.manifests is None:
        yield from map(wire.pending_body, rows)
    else:
        yield from map(wire.pending_body, rows, contents.manifests)
