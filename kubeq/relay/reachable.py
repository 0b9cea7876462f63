"""What specs, manifests, outfits and packages name: which blobs and results whoever may read these may read too."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

from kubeq.core import wire
from kubeq.core.digest import Digest
from kubeq.core.overlay import Overlay
from kubeq.core.spec import JobSpec
from kubeq.store.blobs import Blobs
from kubeq.store.outputs import file_key
from kubeq.store.result_source import result_in

MOST_NAMES = 1_000_000
"""Names that are remembered, about 100 MB; the largest manifest has half as many."""
MOST_SPECS = 256


class Reachable:
    """Reads each blob once for all guests of a store. Safe to use from several threads; raises as `Blobs.read` does."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._specs: OrderedDict[Digest, JobSpec] = OrderedDict()
        self._named: OrderedDict[Digest, frozenset[str]] = OrderedDict()
        self._names = 0

    def spec(self, digest: Digest) -> JobSpec:
        """The spec in that blob."""
        with self._lock:
            known = self._specs.get(digest)
        if known is None:
            known = wire.decode_spec(self._blobs.read(digest))
            with self._lock:
                self._specs[digest] = known
                while len(self._specs) > MOST_SPECS:
                    self._specs.popitem(last=False)
        return known

    def inputs(self, manifest: Digest) -> frozenset[str]:
        """The blobs in a manifest, by their digests as text, and the results of other tasks, by their keys."""
        return self._once(manifest, self._in_manifest)

    def outfit(self, digest: Digest) -> frozenset[str]:
        """The blobs of an outfit's overlay, it among them, by their digests as text."""
        return self._once(digest, self._in_outfit)

    def laid(self, overlay: Digest) -> frozenset[str]:
        """The blobs of an overlay's files, by their digests as text."""
        return self._once(overlay, self._in_overlay)

    def _in_manifest(self, digest: Digest) -> Iterator[str]:
        manifest = self._blobs.read_manifest(digest)
        yield from (str(entry.digest) for entry in manifest.entries)
        for remote in manifest.remotes:
            source = result_in(remote.url)
            if source is not None:  # other sources the nodes ask themselves
                yield file_key(*source)

    def _in_outfit(self, digest: Digest) -> Iterator[str]:
        overlay = wire.decode_outfit(self._blobs.read(digest)).overlay
        if overlay is not None:
            yield str(overlay)
            yield from self._in_overlay(overlay)

    def _in_overlay(self, digest: Digest) -> Iterator[str]:
        yield from map(str, Overlay.decode(self._blobs.read(digest)).digests)

    def _once(self, digest: Digest, read: Callable[[Digest], Iterator[str]]) -> frozenset[str]:
        """The names in a blob, as they were read when it was first asked for."""
        known = self._known(digest)
        if known is not None:
            return known
        with self._reading:  # a large one is not read by every thread that asks for one of its blobs
            known = self._known(digest)
            if known is None:
                known = frozenset(read(digest))
                self._keep(digest, known)
        return known

    def _known(self, digest: Digest) -> frozenset[str] | None:
        with self._lock:
            if digest in self._named:
                self._named.move_to_end(digest)
            return self._named.get(digest)

    def _keep(self, digest: Digest, names: frozenset[str]) -> None:
        with self._lock:
            self._named[digest] = names
            self._names += len(names)
            while self._names > MOST_NAMES and len(self._named) > 1:
                self._names -= len(self._named.popitem(last=False)[1])
