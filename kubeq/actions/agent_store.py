"""The agent put into the store of a pool, from where any machine can fetch it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from kubeq.actions.session import Session
from kubeq.core.model import Pool
from kubeq.nodes.archive import Archive, agent_archive
from kubeq.nodes.forms import StoredAgent
from kubeq.nodes.packages import extras_of


def store_agent(session: Session, pool: Pool) -> StoredAgent:
    """The agent for machines of the pool, stored. Raises UsageError for a backplane whose agent cannot be packed."""
    config = session.config
    extras = extras_of(config.queue_url, config.store_url, config.blobs_url)
    archive, _ = store_archive(session, pool, extras)
    url = session.blobs.url_of(archive.digest)
    return StoredAgent(url=url, digest=archive.digest, extras=extras, archive=archive)


def store_archive(session: Session, pool: Pool, extras: tuple[str, ...]) -> tuple[Archive, bool]:
    """The archive for nodes of the pool, stored; and whether it lay there already. Safe to repeat.

    The pool's row names it first, so that no cleaning takes it away from a machine that is about to fetch it.
    """
    archive = agent_archive(extras, session.config.cache_dir)
    session.queue.keep_archive(pool, archive.digest)
    missing = session.blobs.missing([archive.digest])
    session.blobs.upload({digest: lambda: _open(archive.path) for digest in missing})
    return archive, not missing


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
