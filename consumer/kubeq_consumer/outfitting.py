"""Putting a pool's outfit on the node before its first attempt, and taking it off after its last one.

Once a node, however often its agent is started anew. A node on which that fails runs nothing; other nodes go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from kubeq.core.digest import Digest
from kubeq.core.outfit import Outfit
from kubeq.core.overlay import Overlay
from kubeq.core.wire import decode_outfit
from kubeq.errors import KubeqError
from kubeq.store.blobs import Blobs
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.overlaying import lay, own_root
from kubeq_consumer.peers import FILE, FOLDER
from kubeq_consumer.scripts import Script
from kubeq_consumer.settings import AgentConfig

log = logging.getLogger(__name__)
PRE_LIMIT_S = 3600.0
"""What takes longer hangs, more often than not, and the machine may be paid for."""
POST_LIMIT_S = 300.0
"""How long a node that is to leave may be kept by it."""
DONE = "outfit"


class Outfitter:
    """The outfit of this agent's pool. For one thread.

    Overlays are laid below `root` (None: the agent's own), and `--post` may take `post_limit_s`.
    """

    def __init__(
        self,
        config: AgentConfig,
        blobs: Blobs,
        cache: BlobCache,
        *,
        root: Path | None = None,
        post_limit_s: float = POST_LIMIT_S,
    ) -> None:
        self._config = config
        self._root = root
        self._post_limit_s = post_limit_s
        self._blobs = blobs
        self._cache = cache
        self._folder = config.folder
        self._worn: Outfit | None = None

    def put_on(self, stopped: Callable[[], bool]) -> str | None:
        """Do what the pool asks for before the first attempt, unless that was done before; None, or why it failed.

        What lasts is ended when `stopped`, which is asked again and again, says so, and that is a failure.
        """
        if self._config.outfit is None:
            return None
        done = self._folder / DONE
        try:
            outfit = decode_outfit(self._blobs.read(self._config.outfit))
            if not done.exists():
                if outfit.overlay is not None:
                    self._lay(outfit.overlay, stopped)
                why = self._run("--pre", outfit.pre, PRE_LIMIT_S, stopped)
                if why is not None:
                    return why
                done.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                done.write_text(str(self._config.outfit), encoding="ascii")
        except KubeqError as error:
            return error.message
        except OSError as error:
            return f"{error.filename or done}: {error.strerror or error}"
        self._worn = outfit
        return None

    def _lay(self, overlay: Digest, stopped: Callable[[], bool]) -> None:
        entries = Overlay.decode(self._blobs.read(overlay))
        root = self._root or own_root()
        lay(entries, self._cache, root, stopped)
        log.info("an overlay of %d entries is laid below %s", len(entries.entries), root)

    def take_off(self) -> str | None:
        """Do what the pool asks for after the last attempt; None, or why it failed. Nothing if it was never put on."""
        if self._worn is None:
            return None
        try:
            return self._run("--post", self._worn.post, self._post_limit_s, lambda: False)
        except KubeqError as error:
            return error.message

    def _run(self, option: str, line: str | None, limit_s: float, stopped: Callable[[], bool]) -> str | None:
        if line is None:
            return None
        name = option.removeprefix("--")
        log.info("the %s command starts", option)
        script = Script(name, ["/bin/sh", "-c", line], self._environment(), self._folder / f"{name}.process")
        why = script.run(limit_s, self._config.grace_s, stopped)
        if why is None:
            log.info("the %s command has ended well", option)
            return None
        log.error("the %s command failed: %s", option, why)
        return f"its {option} command failed: {why}"

    def _environment(self) -> dict[str, str]:
        return {"KUBEQ_NODE_NAME": self._config.node, "KUBEQ_PEERS": str(self._folder / FOLDER / FILE)}
