"""Bytes that are somewhere else: what a URL names, how it is pinned at submission, how a node gets it.

The submitter looks and takes down where the bytes are and what the source says of them, the pin; they never pass
through its machine. A node fetches them from there and takes nothing that does not have the pin. What a pin is made of
is the affair of each kind of source (`bucket_source`, `http_source`, `result_source`); which is whose, `open` knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from kubeq.core.manifest import Remote
from kubeq.errors import IntegrityError, ObjectNotFound, UsageError
from kubeq.store.patience import Patience
from kubeq.store.retry import resuming

MOST_FILES = 1_000_000
"""Files below one URL: a manifest of more could not be held in memory by a small node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """One file that a URL names, as it is now. `name` is its place below the URL, empty for what is named itself."""

    url: str
    pin: str
    size: int
    name: str = ""
    executable: bool = False


class Opener(Protocol):
    """What a node needs of a kind of source."""

    def open(self, remote: Remote, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The pinned bytes from offset `start` on.

        Raises ObjectNotFound if there is nothing any more, IntegrityError naming both pins if there is something else,
        BackendError for what is refused or out of reach.
        """
        ...


class Site(Opener, Protocol):
    """A kind of source. Safe to use from several threads."""

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests it has made so far, by the service's own name for each kind."""
        ...

    def look(self, url: str) -> Sequence[Pinned]:
        """What the URL names: one file, or all files below it as in a directory.

        Raises ObjectNotFound if that is nothing, UsageError for what cannot be a source, BackendError.
        """
        ...


class RetryingSite:
    """The Site inside, with the retries of `Patience`; a stream that breaks goes on where it broke."""

    def __init__(self, site: Site, patience: Patience) -> None:
        self._site = site
        self._patience = patience

    @property
    def requests(self) -> Mapping[str, int]:
        """Those of the site inside; each try counts."""
        return self._site.requests

    def look(self, url: str) -> Sequence[Pinned]:
        """As the site."""
        return self._patience.repeat(lambda: self._site.look(url))

    def open(self, remote: Remote, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """As the site."""
        return resuming(lambda offset: self._site.open(remote, offset), start, self._patience)


def shown(url: str) -> str:
    """The URL for messages and logs: without its query, where signed URLs have their keys."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.partition('?')[0]}" if scheme in ("http", "https") else url


def changed(remote: Remote, now: str) -> IntegrityError:
    """The error for a source that has another pin now."""
    return IntegrityError(
        f"the input {remote.path} has changed since the job was submitted: "
        f"{shown(remote.url)} was {remote.pin} and is {now} now",
        hint="submit again, with a source that stays as it is",
    )


def gone(remote: Remote) -> ObjectNotFound:
    """The error for a source that is not there any more."""
    return ObjectNotFound(
        f"the input {remote.path} is gone: there is no {shown(remote.url)} any more, which was {remote.pin}",
        hint="submit again, with a source that stays where it is",
    )


def nothing_at(url: str) -> ObjectNotFound:
    """The error for a URL that names nothing."""
    return ObjectNotFound(f"there is nothing at {shown(url)}")


def check_count(url: str, files: int) -> None:
    """Raises UsageError for a prefix with more files than a job may have."""
    if files > MOST_FILES:
        raise UsageError(
            f"there are more than {MOST_FILES:,} files below {shown(url)}", hint="name a smaller part of it"
        )
