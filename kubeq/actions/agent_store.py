"""The agent put into the store of a pool, from where any machine can fetch it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from kubeq.actions.session import Session
from kubeq.core.digest import Digest
from kubeq.core.model import Pool
from kubeq.errors import ImageUnavailable
from kubeq.nodes.archive import Archive, agent_archive
from kubeq.nodes.forms import StoredAgent, image_name
from kubeq.nodes.images import packed_image
from kubeq.nodes.packages import COMPILED, extras_of
from kubeq.store.blobs import hash_file


def store_agent(session: Session, pool: Pool) -> StoredAgent:
    """The agent for machines of the pool, stored: as an archive, or as the image where it needs what is compiled.

    Raises ImageUnavailable if this machine does not have that image.
    """
    config = session.config
    extras = extras_of(config.queue_url, config.store_url, config.blobs_url)
    if COMPILED.intersection(extras):
        return _store_image(session, pool, extras)
    archive, _ = store_archive(session, pool, extras)
    url = session.blobs.url_of(archive.digest)
    return StoredAgent(url=url, digest=archive.digest, extras=extras, archive=archive)


def _store_image(session: Session, pool: Pool, extras: tuple[str, ...]) -> StoredAgent:
    image = image_name(session.config.consumer_image)
    try:
        path = packed_image(image, session.config.cache_dir)
    except ImageUnavailable as error:
        raise ImageUnavailable(
            f"machines of a cloud are given the agent's image {image}, and this machine does not have it",
            hint="build it once: python3 images/consumer/build.py",
        ) from error
    digest = hash_file(path)
    _store(session, pool, digest, path)
    return StoredAgent(url=session.blobs.url_of(digest), digest=digest, extras=extras, image=image)


def store_archive(session: Session, pool: Pool, extras: tuple[str, ...]) -> tuple[Archive, bool]:
    """The archive for nodes of the pool, stored; and whether it lay there already. Safe to repeat.

    The pool's row names it first, so that no cleaning takes it away from a machine that is about to fetch it.
    """
    archive = agent_archive(extras, session.config.cache_dir)
    return archive, _store(session, pool, archive.digest, archive.path)


def _store(session: Session, pool: Pool, digest: Digest, path: Path) -> bool:
    """Whether it lay there already."""
    session.queue.keep_archive(pool, digest)
    missing = session.blobs.missing([digest])
    session.blobs.upload({each: lambda: _open(path) for each in missing})
    return not missing


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
