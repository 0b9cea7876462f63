"""From a URL to an ObjectStore, to what makes it where it has to be made first, and to a source of single files.

The registries of schemes live here and nowhere else. A backend whose module needs an SDK is imported on first use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from kubeq.core.model import Reach
from kubeq.core.provisioning import Provisioner
from kubeq.errors import UsageError
from kubeq.extras import extra
from kubeq.metering import added
from kubeq.store.base import ObjectStore
from kubeq.store.bucket_source import BucketSite
from kubeq.store.bucket_urls import parse_url
from kubeq.store.local import LocalStore
from kubeq.store.memory import MemoryStore
from kubeq.store.patience import Patience
from kubeq.store.sources import RetryingSite, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of store: how its URL is opened, and who can see it (as the backend itself says).

    `check` raises UsageError for names that cannot be, as `open` does, and imports no backend.
    `provision` gives what makes it in a cloud; its other arguments are the region and the project to make it in, None
    for what the cloud's own tools say. Without it, nothing has to be made.
    """

    open: Callable[[SplitResult], ObjectStore]
    reach: Reach
    check: Callable[[SplitResult], object] | None = None
    provision: Callable[[SplitResult, str | None, str | None], Provisioner] | None = None


def open_store(url: str) -> ObjectStore:
    """The store at `url`; nothing is read or connected yet. Raises UsageError, never with a credential in its text."""
    kind, parts = _parse(url)
    return kind.open(parts)


def open_store_of_node(url: str, token: str | None = None) -> ObjectStore:
    """The store at `url` as a node sees it: the store itself, or what a relay shows to whom has its token.

    Nothing is connected yet. Raises UsageError as `open_store` does, and for a token that is none.
    """
    through = RELAYS.get(url.partition(":")[0])
    return open_store(url) if through is None else through(url, token)


def open_provisioner(url: str, region: str | None = None, project: str | None = None) -> Provisioner | None:
    """What makes the store at `url`, in that region and project; None if nothing has to be made.

    Raises UsageError as `open_store` does; makes no request.
    """
    kind, parts = _parse(url)
    return None if kind.provision is None else kind.provision(parts, region, project)


def check_url(url: str) -> None:
    """Raises UsageError for a URL that names what cannot be, as `open_store` does; imports no backend."""
    kind, parts = _parse(url)
    if kind.check is not None:
        kind.check(parts)


def reach_of(url: str) -> Reach:
    """Who can see the store at `url`; imports no backend. Raises UsageError as `open_store` does."""
    return _parse(url)[0].reach


def open_site(url: str) -> Site:
    """What gives the bytes that the URL names; the same for all URLs of a scheme, and with retries of its own.

    Raises UsageError for a scheme that no source has. Nothing is read or connected yet.
    """
    scheme = url.partition("://")[0]
    if scheme not in SITES:
        known = ", ".join(sorted([*SITES, "kubeq"]))
        raise UsageError(f"no input can be at a URL of the scheme {scheme!r}", hint=f"the schemes are {known}")
    with _opening:
        if scheme not in _sites:
            _sites[scheme] = RetryingSite(SITES[scheme](), Patience())
        return _sites[scheme]


def asked_of(*stores: ObjectStore) -> Mapping[str, int]:
    """How many requests were made of those stores, and of the sources that this process has opened, by kind."""
    with _opening:
        sites = list(_sites.values())
    return added(
        *(each.requests for each in {id(store): store for store in stores}.values()), *(site.requests for site in sites)
    )


def _parse(url: str) -> tuple[Kind, SplitResult]:
    known = ", ".join(sorted(STORES))
    if url != url.strip() or any(ord(letter) < 32 for letter in url):
        raise UsageError("the store's URL has spaces or control characters around or in it", hint="remove them")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("the store's URL is not a URL", hint=f"the schemes are {known}") from None
    kind = STORES.get(parts.scheme)
    if "@" in parts.netloc or (kind is None and "@" in url):
        raise UsageError(
            "the store's URL holds a user name or a password",
            hint="remove it; credentials come from the environment or the provider's own files",
        )
    if kind is None:
        named = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        raise UsageError(
            f"the store's URL has {named}; known are {known}", hint="for a directory write file:///its/path"
        )
    if "?" in url or "#" in url:
        raise UsageError("the store's URL has a query or a fragment", hint="write ? as %3F and # as %23")
    return kind, parts


def _file(parts: SplitResult) -> ObjectStore:
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if parts.netloc or not path.startswith("/"):
        raise UsageError("the store's file URL has no absolute path", hint="write three slashes: file:///its/path")
    if "\0" in path or ".." in path.split("/"):
        raise UsageError(f"the store's path {path!r} cannot be used", hint="write it without '..'")
    return LocalStore(Path(path))


def _memory(parts: SplitResult) -> ObjectStore:
    if parts.netloc or parts.path:
        raise UsageError("a memory store has no name", hint="write memory:")
    return _memory_of_this_process()


def _gs(parts: SplitResult) -> ObjectStore:
    with extra("gcp"):
        from kubeq.store.gcs import open_gcs

    return open_gcs(parts)


def _gs_provisioner(parts: SplitResult, region: str | None, project: str | None) -> Provisioner:
    with extra("gcp"):
        from kubeq.store.gcs_setup import open_gcs_provisioner

    return open_gcs_provisioner(parts, region, project)


def _s3(parts: SplitResult) -> ObjectStore:
    from kubeq.store.s3 import open_s3

    return open_s3(parts)


def _s3_provisioner(parts: SplitResult, region: str | None, project: str | None) -> Provisioner:
    from kubeq.store.s3_setup import open_s3_provisioner

    return open_s3_provisioner(parts, region)


@cache
def _memory_of_this_process() -> MemoryStore:
    return MemoryStore()


STORES: Mapping[str, Kind] = {
    "file": Kind(open=_file, reach=Reach.HOST),
    "gs": Kind(open=_gs, reach=Reach.NETWORK, check=parse_url, provision=_gs_provisioner),
    "memory": Kind(open=_memory, reach=Reach.HOST),
    "s3": Kind(open=_s3, reach=Reach.NETWORK, check=parse_url, provision=_s3_provisioner),
}


def _gs_site() -> Site:
    with extra("gcp"):
        from kubeq.store.gcs_bucket import Bucket

    return BucketSite("gs", Bucket)


def _s3_site() -> Site:
    from kubeq.store.s3_bucket import Bucket

    return BucketSite("s3", Bucket)


def _http_site() -> Site:
    from kubeq.store.http_source import HttpSite

    return HttpSite()


_opening = threading.Lock()
_sites: dict[str, Site] = {}
SITES: Mapping[str, Callable[[], Site]] = {"gs": _gs_site, "http": _http_site, "https": _http_site, "s3": _s3_site}


def _relay(url: str, token: str | None) -> ObjectStore:
    from kubeq.relay_client import RelayClient
    from kubeq.relay_wire import parse_token, parse_url
    from kubeq.store.relay import RelayStore

    return RelayStore(RelayClient(parse_url(url), parse_token(token or "")))


RELAYS: Mapping[str, Callable[[str, str | None], ObjectStore]] = {"relay": _relay}
"""What shows a node only its part of a store, by the scheme of its URL."""
