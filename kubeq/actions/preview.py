"""What a submission would do, without doing any of it: `--dry-run`. Makes no file and no folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from kubeq.actions.launching import pool_of_request
from kubeq.actions.plan import Plan
from kubeq.actions.session import Session
from kubeq.actions.submit import Upload, contents_of
from kubeq.core.spec import command_of
from kubeq.store.blobs import hash_file

SHOWN_TASKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The first commands as the tasks would get them, what would be sent, and the nodes that would be started."""

    name: str
    total: int
    image: str | None
    commands: Sequence[Sequence[str]]
    upload: Upload
    pool: str | None
    nodes: int
    provider: str


def preview(session: Session, plan: Plan) -> Preview:
    """What a submission of the plan would do now. Reads the inputs and asks the store; the image is not looked up."""
    digests = {path: hash_file(path) for path in plan.inputs.paths()}
    contents = contents_of(plan, digests, None)
    missing = session.blobs.missing(list(contents.sources))
    rows = [()] if plan.table is None else islice(plan.table.rows, SHOWN_TASKS)
    private = session.config.local
    pool = pool_of_request(session, private=private)
    alive = [] if private else [seen for seen in session.provider.observe(pool.id).values() if seen.alive]
    return Preview(
        name=plan.name,
        total=plan.total,
        image=plan.spec.image,
        commands=[command_of(plan.spec, row) for row in rows],
        upload=Upload(
            files=len(missing),
            size=sum(digest.size for digest in missing),
            already=len(contents.sources) - len(missing),
        ),
        pool=None if private else pool.id,
        nodes=0 if alive or session.config.prepare else 1,
        provider=pool.provider,
    )
