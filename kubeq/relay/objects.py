"""The objects of a store that a guest may see and make. Everything else is AccessDenied, whether it exists or not.

It reads what its attempts need (specs, manifests, and the blobs and results of other tasks that these name), what its
pool needs (the agent's archive, the outfit, packages), what it and earlier attempts of its tasks have published, and
its own folder. It writes below its attempts and in its own folder, and deletes its own log segments and what is in its
folder. The checkpoints of earlier attempts of its tasks it reads, and removes when they are of no use any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

from kubeq.core.model import JobId
from kubeq.core.spec import JobSpec
from kubeq.errors import AccessDenied, BackendError
from kubeq.relay.admissions import Guest
from kubeq.relay.holdings import Holdings
from kubeq.relay.reachable import Reachable
from kubeq.store.base import ObjectStore, Stored
from kubeq.store.blobs import blob_of_key
from kubeq.store.checkpoints import attempt_of_checkpoint, task_of_prefix
from kubeq.store.keys import is_key
from kubeq.store.logs import attempt_of_segment
from kubeq.store.outputs import attempt_of_key

NODES = "nodes/"
"""Below it every node has a folder of its name, for what is neither an input nor a result."""


class GuestStore:
    """One guest's part of the two stores of its backplane. Safe to use from several threads."""

    def __init__(
        self, store: ObjectStore, blobs: ObjectStore, reachable: Reachable, guest: Guest, holdings: Holdings
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._reachable = reachable
        self._holdings = holdings
        self._folder = f"{NODES}{guest.node}/"
        self._guest = guest

    def put(self, key: str, open: Callable[[], BinaryIO], size: int, sha256: str) -> bool:
        """As `ObjectStore.put`."""
        if not self._is_writable(_checked(key)):
            raise self._no("write", key)
        return self._store.put(key, open, size, sha256)

    def get(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """As `ObjectStore.get`."""
        return self._readable(_checked(key)).get(key, start)

    def stat(self, keys: Sequence[str]) -> Mapping[str, int]:
        """As `ObjectStore.stat`."""
        sizes: dict[str, int] = {}
        places: dict[int, tuple[ObjectStore, list[str]]] = {}
        for key in keys:
            store = self._readable(_checked(key))
            places.setdefault(id(store), (store, []))[1].append(key)
        for store, chosen in places.values():
            sizes |= store.stat(chosen)
        return sizes

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """As `ObjectStore.list`."""
        mine = prefix.startswith(self._folder)
        if not mine:
            segment, kept = attempt_of_segment(prefix), task_of_prefix(prefix)
            mine = segment is not None and self._holdings.is_mine(*segment)
            mine = mine or (kept is not None and self._holdings.attempt_of(kept, least=1))
        if not mine:
            raise self._no("list", prefix)
        return self._store.list(prefix, after) if is_key(prefix.rpartition("/")[0]) else iter(())

    def delete(self, keys: Sequence[str]) -> None:
        """As `ObjectStore.delete`."""
        for key in keys:
            if not self._is_deletable(_checked(key)):
                raise self._no("delete", key)
        self._store.delete(keys)

    def spec_of(self, job: JobId) -> JobSpec | None:
        """What the job asks for; None if the guest holds no attempt of it."""
        digest = self._holdings.spec_of(job)
        return None if digest is None else self._reachable.spec(digest)

    def _is_deletable(self, key: str) -> bool:
        if key.startswith(self._folder):
            return True
        segment, kept = attempt_of_segment(key), attempt_of_checkpoint(key)
        if kept is not None:
            return self._holdings.attempt_of(kept[0], least=kept[1])
        return segment is not None and self._holdings.is_mine(*segment)

    def _is_writable(self, key: str) -> bool:
        kept = attempt_of_checkpoint(key)
        if kept is not None:
            return self._holdings.is_mine(*kept)
        result = attempt_of_key(key)
        return self._is_deletable(key) or (result is not None and self._holdings.is_mine(*result))

    def _readable(self, key: str) -> ObjectStore:
        """The store in which the guest may read that key. Raises AccessDenied."""
        digest = blob_of_key(key)
        if digest is not None:
            self._require_needed(str(digest), key)
            return self._blobs
        result = attempt_of_key(key)
        if self._is_deletable(key) or (result and self._holdings.attempt_of(result[0], least=result[1])):
            return self._store
        if result is None:
            raise self._no("read", key)
        self._require_needed(key, key)
        return self._store

    def _require_needed(self, name: str, key: str) -> None:
        """Raises AccessDenied unless an attempt that the guest holds, or its pool, names that blob or result."""
        needs = self._holdings.needs()
        if any(name in (str(need.spec), str(need.inputs)) for need in needs):
            return
        manifests = {need.inputs or self._reachable.spec(need.spec).inputs for need in needs}
        if any(name == str(each) or name in self._reachable.inputs(each) for each in manifests if each is not None):
            return
        if self._is_of_pool(name):
            return
        if not self._holdings.told:
            raise BackendError(
                f"the relay does not know yet what node {self._guest.node} holds; it has just started", transient=True
            )
        raise self._no("read", key)

    def _is_of_pool(self, name: str) -> bool:
        """Whether every node of the guest's pool needs that blob: of the agent, of the outfit or of a package."""
        pool = self._holdings.pool()
        if pool is None:
            return False
        if name in map(str, (pool.outfit, *pool.archives)):
            return True
        if any(
            name == str(package.content) or name in self._reachable.laid(package.content) for package in pool.packages
        ):
            return True
        return pool.outfit is not None and name in self._reachable.outfit(pool.outfit)

    def _no(self, what: str, key: str) -> AccessDenied:
        return AccessDenied(f"node {self._guest.node} may not {what} {key[:200]!r}: it is of no attempt of its own")


def _checked(key: str) -> str:
    """The key. Raises AccessDenied for a string that no object could have for a key."""
    if not is_key(key):
        raise AccessDenied(f"that is not a key of an object store: {ascii(key)[:200]}")
    return key
