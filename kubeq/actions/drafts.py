"""Drafts: all that a submission has to write, kept in a local file until it is sealed, so that a crash costs nothing.

`<state folder>/submissions/<job id>.jsonl`: a head, the documents (spec and manifests), the files to upload by digest,
then the body of every task row, a line each. A submission is: write the draft, then do what it says; `resume` only does
what it says. Every step of that may be repeated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeq.actions.journal import journal_of
from kubeq.actions.session import Session
from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.model import Job, JobId
from kubeq.errors import BackendError, NotFound, VersionMismatch
from kubeq.store.disk import disk_errors, sync_directory

STALE_S = 86400.0
"""No submission takes so long between its draft and its job's row."""
WRITING = ".new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A submission that can be made, or completed, from this alone. `sources` are the files of this machine to upload;
    the task rows stay in the file at `path`, from byte `bodies_at` on.
    """

    job: Job
    documents: tuple[bytes, ...]
    sources: Mapping[Digest, Path]
    path: Path
    bodies_at: int

    def bodies(self) -> Iterator[str]:
        """The bodies of the task rows, in order."""
        with self.path.open("rb") as file:
            file.seek(self.bodies_at)
            for line in file:
                yield line.rstrip(b"\n").decode()


def write_draft(
    session: Session, job: Job, documents: Sequence[bytes], sources: Mapping[Digest, Path], bodies: Iterable[str]
) -> Draft:
    """The draft, durable. Raises BackendError if the state folder cannot be written."""
    path = _path_of(session, job.id)
    head = {
        "schema": wire.SCHEMA,
        "id": job.id,
        "job": wire.encode_job(job),
        "documents": len(documents),
        "sources": len(sources),
    }
    with disk_errors("write", os.fsencode(path)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(WRITING)
        with temporary.open("wb") as file:
            file.write(json.dumps(head).encode() + b"\n")
            file.writelines(json.dumps(document.decode()).encode() + b"\n" for document in documents)
            file.writelines(json.dumps([str(digest), str(name)]).encode() + b"\n" for digest, name in sources.items())
            bodies_at = file.tell()
            file.writelines(body.encode() + b"\n" for body in bodies)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(os.fsencode(path.parent))
    return Draft(job=job, documents=tuple(documents), sources=sources, path=path, bodies_at=bodies_at)


def read_draft(session: Session, job: Job) -> Draft:
    """The draft of an incomplete job. Raises NotFound if it is not on this machine or cannot be read."""
    path = _path_of(session, job.id)
    try:
        with path.open("rb") as file:
            head = wire.loads(file.readline(), f"submission {job.id}")
            documents = tuple(json.loads(file.readline()).encode() for _ in range(head["documents"]))
            pairs = [json.loads(file.readline()) for _ in range(head["sources"])]
            return Draft(
                job=wire.decode_job(job.id, head["job"]),
                documents=documents,
                sources={Digest.parse(digest): Path(name) for digest, name in pairs},
                path=path,
                bodies_at=file.tell(),
            )
    except FileNotFoundError:
        why = "is not on this machine"
    except VersionMismatch:
        raise
    except (BackendError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"cannot be read ({error})"
    raise NotFound(
        f"the submission of job {job.id} cannot be completed: its draft {why}",
        hint=f"run kubeq resume on {job.host}, where it was submitted, or remove it: kubeq clean {job.id} --force",
    )


def drop_draft(session: Session, id: JobId) -> None:
    """Remove a draft that is not needed any more; none is no error."""
    path = _path_of(session, id)
    with disk_errors("remove", os.fsencode(path)):
        path.unlink(missing_ok=True)


def drop_stale_drafts(session: Session) -> None:
    """Remove what submissions from here to this queue left behind that ended, more than a day ago, without a job: the
    draft of one that died before the job's row stood, or whose job has been removed, with the rows it wrote in vain."""
    folder, now = session.config.state_dir / "submissions", session.clock.now()
    with disk_errors("read", os.fsencode(folder)):
        try:
            old = [path for path in folder.iterdir() if now - path.stat().st_mtime > STALE_S]
        except FileNotFoundError:  # no draft was ever written, or one was just removed: then next time
            return
    ours = {line.id for line in journal_of(session).lines()} if old else set()
    for path in old:
        id = JobId(path.stem)
        if path.suffix == WRITING:
            with disk_errors("remove", os.fsencode(path)):
                path.unlink(missing_ok=True)
        elif id in ours and not _has_job(session, id):
            session.queue.forget_tasks(id)
            drop_draft(session, id)


def _has_job(session: Session, id: JobId) -> bool:
    try:
        session.queue.job(id)
    except VersionMismatch:
        return True
    except NotFound:
        return False
    return True


def _path_of(session: Session, id: JobId) -> Path:
    return session.config.state_dir / "submissions" / f"{id}.jsonl"
