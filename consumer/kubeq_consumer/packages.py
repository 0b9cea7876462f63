"""The packages of this node's pool: each is unpacked below the node's folder, and its program is started once a node.

Once, however often the agent is started anew: a mark says so before it is started. A package that is injected again has
another number and lies beside the first one, so nothing is ever changed under a program that runs.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
from pathlib import Path

from kubeq.core.overlay import Overlay
from kubeq.core.packages import Package
from kubeq.errors import BackendError, KubeqError
from kubeq.queue.claims import Claims
from kubeq.store.blobs import Blobs
from kubeq_consumer.blobcache import BlobCache
from kubeq_consumer.overlaying import lay
from kubeq_consumer.peers import FILE, FOLDER
from kubeq_consumer.scripts import Script
from kubeq_consumer.settings import AgentConfig

log = logging.getLogger(__name__)
STARTED = "started"
FILES = "files"
ASK_AGAIN_S = 5.0


class Packages:
    """What has been injected into the pool, on this node. `told` may be called before `start`, from any thread.

    A queue that could not be asked which packages there are is asked again after `ask_again_s`.
    """

    def __init__(
        self,
        config: AgentConfig,
        claims: Claims,
        blobs: Blobs,
        cache: BlobCache,
        *,
        ask_again_s: float = ASK_AGAIN_S,
    ) -> None:
        self._ask_again_s = ask_again_s
        self._config = config
        self._claims = claims
        self._blobs = blobs
        self._cache = cache
        self._lock = threading.Lock()
        self._told: int | None = None
        self._settled = False
        self._begun: set[int] = set()
        self._running: list[threading.Thread] = []
        self._news = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="packages", daemon=True)
        self.trouble: str | None = None
        """Why the program of a package could not be started, or how it failed; the latest one."""

    @property
    def busy(self) -> bool:
        """Whether a program that was started is still there, or it is not known yet whether one is to be started."""
        with self._lock:
            return not self._settled or any(thread.is_alive() for thread in self._running)

    def start(self) -> None:
        """Begin with what is injected by now; the node is what its pool asks for."""
        self._thread.start()

    def told(self, number: int) -> None:
        """The node's row names the newest package by that number. The first time it is asked in any case: a package
        that was injected before the node had a row is told of by nobody.
        """
        with self._lock:
            if number != self._told:
                self._told, self._settled = number, False
                self._news.set()

    def stop(self) -> None:
        """End the programs that still run, and start no more."""
        self._stop.set()
        self._news.set()
        for thread in [self._thread, *self._running]:
            if thread.is_alive():
                thread.join(self._config.grace_s + 10)

    def _run(self) -> None:
        while self._news.wait() and not self._stop.is_set():
            self._news.clear()
            try:
                packages = self._claims.packages(self._config.pool)
            except BackendError as error:
                log.warning("it cannot be known which packages there are: %s", error)
                with self._lock:
                    self._settled = True  # nobody is kept by a question that is not answered
                self._stop.wait(self._ask_again_s)
                self._news.set()
                continue
            for package in packages:
                if package.number not in self._begun and not self._stop.is_set():
                    self._begun.add(package.number)
                    self._begin(package)
            with self._lock:
                self._settled = not self._news.is_set()

    def _begin(self, package: Package) -> None:
        folder = self._config.folder / "packages" / str(package.number)
        if (folder / STARTED).exists():
            log.info("package %s was started here before; it is not started again", package.name)
            return
        try:
            entry = self._unpack(package, folder)
            (folder / STARTED).touch(exist_ok=False)
        except KubeqError as error:
            self._failed(package, error.message)
        except OSError as error:
            self._failed(package, f"{error.filename or folder}: {error.strerror or error}")
        else:
            thread = threading.Thread(target=self._launch, args=(package, entry, folder), daemon=True)
            thread.start()
            with self._lock:
                self._running.append(thread)

    def _unpack(self, package: Package, folder: Path) -> Path:
        """Where the package's program lies, with all of it. What an unpacking that was cut off has left is removed."""
        files = folder / FILES
        if files.exists():
            shutil.rmtree(files)
        files.mkdir(parents=True, mode=0o700)
        content = Overlay.decode(self._blobs.read(package.content))
        if package.entry not in {entry.path for entry in content.entries}:
            raise BackendError(f"it has no {package.entry!r}")
        lay(content, self._cache, files)
        log.info("package %s is unpacked in %s", package.name, files)
        return files / package.entry

    def _launch(self, package: Package, entry: Path, folder: Path) -> None:
        """Run the program to its end. A file that says no interpreter is run by the shell, as the shell itself does."""
        environment = {
            "KUBEQ_NODE_NAME": self._config.node,
            "KUBEQ_PEERS": str(self._config.folder / FOLDER / FILE),
            "KUBEQ_PACKAGE": str(folder / FILES),
        }
        log.info("package %s starts %s", package.name, package.entry)
        words = ["/bin/sh", "-c", 'exec "$0"', str(entry)]
        script = Script(package.name, words, environment, folder / "process", entry.parent)
        try:
            why = script.run(math.inf, self._config.grace_s, self._stop.is_set)
        except KubeqError as error:
            why = error.message
        if why is None:
            log.info("%s of package %s has ended well", package.entry, package.name)
        elif self._stop.is_set():
            log.info("%s of package %s was ended: %s", package.entry, package.name, why)
        else:
            self._failed(package, why)

    def _failed(self, package: Package, why: str) -> None:
        self.trouble = f"its package {package.name} failed: {why}"
        log.error("package %s failed: %s", package.name, why)
