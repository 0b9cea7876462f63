"""Whether queue, store and nodes of a configuration go together: who can see what. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable
from string import Formatter

from kubeq.config import Config
from kubeq.core.model import Job, Reach
from kubeq.errors import NotFound, UsageError
from kubeq.nodes.base import NodeCapabilities
from kubeq.queue import open as queues
from kubeq.store import open as stores
from kubeq.store.base import ObjectStore


def check_names(config: Config) -> None:
    """Raises UsageError for a bucket, project, region or table that cannot be called so, and where that was said."""
    checks: tuple[tuple[str, str, Callable[[str], None]], ...] = (
        ("default_url_prefix", config.store_url, stores.check_url),
        ("cas_url_prefix", config.blobs_url, stores.check_url),
        ("queue_url", config.queue_url, queues.check_url),
    )
    for key, url, check in checks:
        try:
            check(url)
        except UsageError as error:
            raise UsageError(f"{_said(config, key)}: {error.message}", hint=error.hint) from None


def _said(config: Config, key: str) -> str:
    """The key and who has set it; for the queue that goes with a store, who has set what names it."""
    origin = config.origins[key]
    beside = queues.BESIDE.get(config.store_url.partition(":")[0], "")
    names = [name for _, name, _, _ in Formatter().parse(beside) if name] if key == "queue_url" else []
    if origin != "default" or not names:
        return f"{key} ({origin})"
    return ", ".join(f"{name} ({config.origins[name]})" for name in names)


def check_reach(config: Config, nodes: NodeCapabilities) -> None:
    """Raises UsageError naming what cannot be seen from where it is needed.

    A queue on this machine may go with a store on the network: then all is done here, and only the bytes lie there. The
    other way round a node elsewhere would claim tasks whose inputs it cannot read.
    """
    here = [
        f"{key} = {url}"
        for key, url, reach in (
            ("queue_url", config.queue_url, queues.reach_of(config.queue_url)),
            ("default_url_prefix", config.store_url, stores.reach_of(config.store_url)),
            ("cas_url_prefix", config.blobs_url, stores.reach_of(config.blobs_url)),
        )
        if reach is Reach.HOST
    ]
    away = nodes.reach is Reach.NETWORK and not nodes.relays
    if away and here:
        raise UsageError(
            f"nodes of the provider {config.provider!r} are other machines, and cannot see what is on this one: "
            f"{' and '.join(here)}",
            hint="name a bucket (default_url_prefix = s3://... or gs://...), or take provider = local",
        )
    if here and queues.reach_of(config.queue_url) is Reach.NETWORK:
        raise UsageError(
            f"the queue {config.queue_url} gives tasks to any machine, and their files are on this one: "
            f"{' and '.join(here)}",
            hint="name a bucket in default_url_prefix too, or leave queue_url out",
        )


def reach_of(config: Config) -> Reach:
    """Who can see all of the backplane: this machine alone, or every one with the right to."""
    reaches = {queues.reach_of(config.queue_url), stores.reach_of(config.store_url), stores.reach_of(config.blobs_url)}
    return Reach.HOST if Reach.HOST in reaches else Reach.NETWORK


def check_store_of(job: Job, store: ObjectStore) -> None:
    """Raises NotFound if what the job has stored lies in another store than this, which would seem to have lost it.

    Several stores may share a queue on the network. A directory has many names, so of one nothing can be said.
    """
    if store.reach is Reach.NETWORK and not job.results_url.startswith(f"{store.url}/"):
        raise NotFound(
            f"what job {job.id} ({job.name}) has stored is in {job.results_url}, and this configuration's store is "
            f"{store.url}",
            hint="use the configuration that it was submitted with, or -o default_url_prefix=URL",
        )
