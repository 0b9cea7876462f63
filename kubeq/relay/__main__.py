"""`python -m kubeq.relay STATE_DIR`: be the relay of that state folder, until nobody needs one any more.

Commands start it; see `starting`. It writes its log as JSON lines, and nothing else unless it cannot start.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import kubeq
from kubeq.core.clock import SystemClock
from kubeq.errors import BackendError, KubeqError
from kubeq.json_log import log_to
from kubeq.relay.home import RelayHome, Sight
from kubeq.relay.server import RelayServer
from kubeq.relay.service import Relay
from kubeq.relay.upkeep import Upkeep

log = logging.getLogger("kubeq.relay")
LOOK_S = 2.0
"""Between two looks at whether the relay is needed; as often it tells whom it has heard."""
UNNEEDED_S = 10.0
"""So long the relay stays when nobody needs it: the next command may."""


class Process:
    """This process as the relay of a state folder; `life` is the handle that says so."""

    def __init__(self, home: RelayHome, life: int) -> None:
        self._home = home
        self._life = life
        self._clock = SystemClock()
        self._relay = Relay(home.admissions, self._clock)
        self._upkeep = Upkeep(self._relay, home, self._clock)
        self._asked = threading.Event()
        self._server: RelayServer | None = None
        self._unneeded_at: float | None = None

    def begin(self) -> None:
        """Listen, and let commands find this process. Raises OSError, BackendError."""
        self._home.socket.unlink(missing_ok=True)
        self._server = RelayServer(self._home.socket, self._relay)
        threading.Thread(target=self._server.serve_forever, name="server", daemon=True).start()
        self._home.write_record(started_at=self._clock.now(), version=kubeq.__version__)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked.set())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        log.info("the relay of kubeq %s listens at %s", kubeq.__version__, self._home.socket)

    def run(self) -> None:
        """Serve until somebody asks for the end, or nobody needs the relay any more."""
        while not self._asked.wait(LOOK_S):
            if self._home.record() is None:
                log.warning("the folder %s was emptied; the relay ends", self._home.folder)
                return
            try:
                if self._is_over():
                    return
            except BackendError as error:
                log.warning("the relay cannot look after itself: %s", error)
        log.info("the relay was asked to end")
        with self._home.turn():
            self._leave()

    def _is_over(self) -> bool:
        """Whether nobody has needed the relay for a while; then it has left, and the next command starts another."""
        now = self._clock.now()
        heard_at = {node: now - ago for node, ago in self._relay.heard().items()}
        self._home.write_sight(Sight(at=now, heard_at=heard_at))
        if self._upkeep.is_needed():
            self._unneeded_at = None
            return False
        monotonic = self._clock.monotonic()
        self._unneeded_at = monotonic if self._unneeded_at is None else self._unneeded_at
        if monotonic - self._unneeded_at < UNNEEDED_S:
            return False
        with self._home.turn():
            if self._upkeep.is_needed():
                return False
            log.info("nobody needs the relay any more")
            self._leave()
        return True

    def _leave(self) -> None:
        """Be the relay no more; what is being answered is cut short, and asked again of the next one."""
        self._home.remove_record()
        if self._server is not None:
            self._server.close_all()
        os.close(self._life)


def main() -> None:
    """Be the relay, or end at once if another process is."""
    home = RelayHome(Path(sys.argv[1]))
    os.umask(0o077)
    try:
        with home.turn():
            life = home.take_life()
            if life is None:
                return
            log_to(home.log)
            process = Process(home, life)
            process.begin()
        process.run()
    except KubeqError as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: the relay cannot listen at {home.socket}: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
