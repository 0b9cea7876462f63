"""`python -m kubeq.nodes.ssh_tunnels STATE_DIR`: the tunnels from hosts to the relay of that state folder.

A process that outlives the terminal, one for each state folder; whoever launches nodes behind a relay has it run. What
it is to keep stands in files, `<state folder>/tunnels/<pool>-<host>.json`; it follows what appears and vanishes there.
It ends by itself some time after the relay has, and forgets the tunnels then: nobody comes through them any more.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kubeq.core.model import PoolId
from kubeq.errors import BackendError
from kubeq.nodes.boot import whole_environment
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_tunnel import Tunnel

log = logging.getLogger("kubeq.tunnels")
LOOK_S = 1.0
WITHOUT_RELAY_S = 60.0
"""So long tunnels are kept that lead nowhere: a relay that crashed is started again by the next command."""
_PATHS = ("keys", "known_hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A tunnel to be kept: from which host, to which socket here, and the file there that tells the port."""

    login: Login
    socket: Path
    path: str


def want_tunnel(state_dir: Path, pool: PoolId, host: str, wanted: Wanted) -> None:
    """Have the tunnel kept from now on, in place of the one that this host had for the pool. Raises BackendError."""
    folder = state_dir / "tunnels"
    path = folder / f"{pool}-{re.sub(r'[^A-Za-z0-9._-]', '_', host)}.json"
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(wanted), default=str), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BackendError(f"{path} cannot be written: {error.strerror or error}") from error


def ensure_tunnels(state_dir: Path) -> None:
    """Have the process run that keeps the tunnels; a second one ends at once. Raises BackendError."""
    folder = state_dir / "tunnels"
    handle = _take(folder)
    if handle is None:
        return
    os.close(handle)
    try:
        with (folder / "tunnels.out").open("wb") as printed:
            subprocess.Popen(
                [sys.executable, "-m", "kubeq.nodes.ssh_tunnels", str(state_dir)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                cwd="/",
                env=whole_environment(os.environ, {}),
                start_new_session=True,
            )
    except OSError as error:
        raise BackendError(f"the tunnels cannot be started: {error.strerror or error}") from error


class Tunnels:
    """Those that the files of a folder ask for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, tuple[str, Wanted, Tunnel]] = {}

    def follow(self) -> None:
        """Open what has appeared or changed, close what has vanished."""
        found = {path: path.read_text(encoding="utf-8") for path in sorted(self._folder.glob("*.json"))}
        for path in [path for path, (text, _, _) in self._kept.items() if found.get(path) != text]:
            self._kept.pop(path)[2].close()
        for path, text in found.items():
            if path not in self._kept:
                wanted = _decode(json.loads(text))
                tunnel = Tunnel(wanted.login, lambda place=wanted.socket: _connected(place), wanted.path)  # type: ignore[misc]
                self._kept[path] = (text, wanted, tunnel)
                tunnel.start()

    def lead_somewhere(self) -> bool:
        """Whether some relay answers that one of them leads to."""
        return any(_answers(place) for place in {wanted.socket for _, wanted, _ in self._kept.values()})

    def end(self) -> None:
        """Close them all, and forget them."""
        for path, (_, _, tunnel) in self._kept.items():
            tunnel.close()
            path.unlink(missing_ok=True)


def main(state_dir: Path) -> None:
    """Keep tunnels until the relay is gone, or somebody asks for the end."""
    folder = state_dir / "tunnels"
    handle = _take(folder)
    if handle is None:
        return
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    tunnels, led_at = Tunnels(folder), time.monotonic()
    try:
        while not ending.is_set() and time.monotonic() - led_at < WITHOUT_RELAY_S:
            tunnels.follow()
            if tunnels.lead_somewhere():
                led_at = time.monotonic()
            ending.wait(LOOK_S)
    finally:
        tunnels.end()


def _take(folder: Path) -> int | None:
    """The handle that makes this process the one that keeps the tunnels; None if another does."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "life", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackendError(f"{folder} cannot be used: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _connected(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(place))
    except OSError:
        connection.close()
        raise
    return connection


def _answers(place: Path) -> bool:
    with suppress(OSError), _connected(place):
        return True
    return False


def _decode(document: Mapping[str, Any]) -> Wanted:
    return Wanted(login=_login(document["login"]), socket=Path(document["socket"]), path=document["path"])


def _login(document: Mapping[str, Any]) -> Login:
    paths = {name: tuple(Path(path) for path in document[name]) for name in _PATHS}
    return Login(**{**document, **paths, "jumps": tuple(_login(jump) for jump in document["jumps"])})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(Path(sys.argv[1]))
