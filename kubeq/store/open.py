"""From a URL to an ObjectStore. The registry of schemes lives here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from kubeq.errors import UsageError
from kubeq.store.base import ObjectStore
from kubeq.store.local import LocalStore
from kubeq.store.memory import MemoryStore


def open_store(url: str) -> ObjectStore:
    """The store at `url`; nothing is read or connected yet. Raises UsageError, never with a credential in its text."""
    known = ", ".join(sorted(_FACTORIES))
    if url != url.strip() or any(ord(letter) < 32 for letter in url):
        raise UsageError("the store's URL has spaces or control characters around or in it", hint="remove them")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("the store's URL is not a URL", hint=f"the schemes are {known}") from None
    factory = _FACTORIES.get(parts.scheme)
    if "@" in parts.netloc or (factory is None and "@" in url):
        raise UsageError(
            "the store's URL holds a user name or a password",
            hint="remove it; credentials come from the environment or the provider's own files",
        )
    if factory is None:
        named = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        raise UsageError(
            f"the store's URL has {named}; known are {known}", hint="for a directory write file:///its/path"
        )
    if "?" in url or "#" in url:
        raise UsageError("the store's URL has a query or a fragment", hint="write ? as %3F and # as %23")
    return factory(parts)


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


@cache
def _memory_of_this_process() -> MemoryStore:
    return MemoryStore()


_FACTORIES: Mapping[str, Callable[[SplitResult], ObjectStore]] = {"file": _file, "memory": _memory}
