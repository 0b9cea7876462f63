"""What a submission would do, without doing any of it: `--dry-run`. Makes no file and no folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from kubeq.actions.inputs import Inputs
from kubeq.actions.launching import nodes_for, pool_of_request
from kubeq.actions.plan import Plan
from kubeq.actions.preflight import Passed, Preflight
from kubeq.actions.session import Session
from kubeq.actions.spending import Quote, Work, quote
from kubeq.actions.submit import Upload, contents_of
from kubeq.core.digest import Digest
from kubeq.core.model import Pool
from kubeq.core.spec import command_of
from kubeq.store.blobs import hash_file
from kubeq.store.sources import shown

SHOWN_TASKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """An input and its place in a task's work directory; `sent` if it is a file of this machine that the store lacks.

    `remote`: a node fetches it from where it is.
    """

    source: str
    destination: str
    size: int
    sent: bool
    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The first commands as the tasks would get them, what would be sent, and the nodes that would be started."""

    name: str
    total: int
    image: str | None
    pinned: str | None
    commands: Sequence[Sequence[str]]
    files: Sequence[Staged]
    upload: Upload
    pool: str | None
    nodes: int
    provider: str
    hosts: Sequence[str]
    """Those of the user's own that nodes may be on, as they are logged in to."""
    checks: Sequence[Passed]
    quote: Quote | None = None
    """The machines among them."""


def preview(session: Session, plan: Plan, ready: Preflight) -> Preview:
    """What a submission of the plan would do now, after that preflight. Reads the inputs and asks the store.

    Raises BackendError as a submission would.
    """
    digests = {path: hash_file(path) for path in plan.inputs.paths()}
    contents = contents_of(plan, digests, ready.pinned, session.dressing)
    missing = session.blobs.missing(list(contents.sources))
    rows = [()] if plan.table is None else islice(plan.table.rows, SHOWN_TASKS)
    private = session.config.local
    pool = pool_of_request(session, private=private)
    offered = quote_for(session, plan, pool, ready) if ready.offers else None
    missing_nodes = max(0, nodes_for(session, pool, plan.total) - _alive(session, pool))
    return Preview(
        name=plan.name,
        total=plan.total,
        image=plan.spec.image,
        pinned=ready.pinned,
        files=_staged(plan.inputs, digests, missing),
        commands=[command_of(plan.spec, row) for row in rows],
        upload=Upload(
            files=len(missing),
            size=sum(digest.size for digest in missing),
            already=len(contents.sources) - len(missing),
        ),
        pool=None if private else pool.id,
        nodes=offered.count if offered is not None else missing_nodes,
        quote=offered,
        provider=pool.provider,
        hosts=[line.split()[0] for line in pool.hosts],
        checks=ready.passed,
    )


def quote_for(session: Session, plan: Plan, pool: Pool, ready: Preflight) -> Quote:
    """The machines that the submission would start, after a preflight that has found some, and what they cost."""
    work = Work(tasks=plan.total, need=plan.spec.resources, timeout_s=plan.spec.timeout_s)
    return quote(session, pool, ready.offers[0], nodes_for(session, pool, plan.total), work)


def _alive(session: Session, pool: Pool) -> int:
    return sum(seen.alive for seen in session.provider.observe(pool.id).values())


def _staged(inputs: Inputs, digests: Mapping[Path, Digest], missing: Collection[Digest]) -> list[Staged]:
    """Each file once for each of its places, in the order of first use."""
    sources = dict.fromkeys(chain(inputs.shared, chain.from_iterable(inputs.per_task or ())))
    remotes = [
        Staged(source=shown(remote.url), destination=remote.path, size=remote.size, sent=False, remote=True)
        for remote in inputs.remotes
    ]
    return remotes + [
        Staged(
            source=str(source.path),
            destination=source.destination,
            size=digests[source.path].size,
            sent=digests[source.path] in missing,
        )
        for source in sources
    ]
