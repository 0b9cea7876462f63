"""`python -m kubeq.nodes.ssh_tunnels STATE_DIR`: the tunnels from hosts to the relay of that state folder.

A process that outlives the terminal, one for each state folder; whoever launches nodes behind a relay, or sees one, has
it run. What it is to keep stands in files, `<state folder>/tunnels/<pool>-<host>.json`; it follows what appears and
vanishes there, and removes what no node needs any more. Why a tunnel is missing now it tells in `problems`. It ends by
itself some time after the relay has, and leaves the files to the next one.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
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
from urllib.parse import quote

from kubeq.core.model import PoolId
from kubeq.errors import BackendError
from kubeq.nodes.boot import whole_environment
from kubeq.nodes.ssh_host import residents
from kubeq.nodes.ssh_keys import key_mark
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_remote import Remote
from kubeq.nodes.ssh_tunnel import Tunnel

log = logging.getLogger("kubeq.tunnels")
LOOK_S = 0.2
"""Between two looks at which tunnels are wanted: nodes wait for theirs."""
LEAD_S = 2.0
"""Between two looks at whether a relay is there."""
WITHOUT_RELAY_S = 60.0
"""So long tunnels are kept that lead nowhere: a relay that crashed is started again by the next command."""
LAST_S = 5.0
"""For all tunnels to close at the end."""
PROBLEMS = "problems"
_PATHS = ("keys", "known_hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A tunnel to be kept: for whose nodes, from where, to which socket here; and the file there with its port."""

    pool: PoolId
    login: Login
    socket: Path
    path: str


def want_tunnel(state_dir: Path, host: str, wanted: Wanted) -> None:
    """Have the tunnel kept from now on, in place of the one that this host had for the pool. Raises BackendError."""
    path = _file(state_dir, wanted.pool, host)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, asdict(wanted))
    except OSError as error:
        raise BackendError(f"{path} cannot be written: {error.strerror or error}") from error


def drop_tunnel(state_dir: Path, pool: PoolId, host: str, *, older_s: float = 0.0) -> None:
    """Have the host's tunnel for the pool kept no longer, if that was asked for so long ago. No tunnel: no error."""
    path = _file(state_dir, pool, host)
    with suppress(OSError):
        if time.time() - path.stat().st_mtime >= older_s:
            path.unlink(missing_ok=True)


def problem_of(state_dir: Path, pool: PoolId, host: str) -> str | None:
    """Why the host has no tunnel for the pool now, if it is to have one."""
    path = _file(state_dir, pool, host)
    with suppress(OSError, ValueError, AttributeError):
        if path.exists():
            problem = json.loads((path.parent / PROBLEMS).read_text(encoding="utf-8")).get(path.stem)
            return None if problem is None else str(problem)
    return None


def revive_tunnels(state_dir: Path, pool: PoolId) -> None:
    """Have the process run again that keeps the tunnels of the pool, if it was stopped and the relay is there."""
    for path in (state_dir / "tunnels").glob(f"{pool}-*.json"):
        wanted = _read(path)
        if wanted is not None and _answers(wanted[1].socket):
            ensure_tunnels(state_dir)
            return


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
        self._told: dict[str, str] = {}

    def follow(self) -> None:
        """Open what has appeared or changed, close what has vanished, forget what has ended, and tell of problems."""
        found = {path: read for path in sorted(self._folder.glob("*.json")) if (read := _read(path)) is not None}
        for path, (text, _, tunnel) in list(self._kept.items()):
            if tunnel.is_over and path in found and found[path][0] == text:
                path.unlink(missing_ok=True)
                del found[path]
            if path not in found or found[path][0] != text:
                self._kept.pop(path)
                tunnel.end()
        for path, (text, wanted) in found.items():
            if path not in self._kept:
                self._kept[path] = (text, wanted, _tunnel(wanted))
        self._tell({path.stem: why for path, (_, _, tunnel) in self._kept.items() if (why := tunnel.problem)})

    def lead_somewhere(self) -> bool:
        """Whether some relay answers that one of them leads to."""
        return any(_answers(place) for place in {wanted.socket for _, wanted, _ in self._kept.values()})

    def end(self) -> None:
        """Close them all."""
        for _, _, tunnel in self._kept.values():
            tunnel.end()
        deadline = time.monotonic() + LAST_S
        for _, _, tunnel in self._kept.values():
            tunnel.wait(deadline - time.monotonic())
        self._tell({})

    def _tell(self, problems: dict[str, str]) -> None:
        if problems != self._told:
            with suppress(OSError):
                _replace(self._folder / PROBLEMS, problems)
                self._told = problems


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
    tunnels, led_at, asked_at = Tunnels(folder), time.monotonic(), float("-inf")
    try:
        while not ending.is_set() and time.monotonic() - led_at < WITHOUT_RELAY_S:
            tunnels.follow()
            if time.monotonic() - asked_at >= LEAD_S:
                asked_at = time.monotonic()
                if tunnels.lead_somewhere():
                    led_at = time.monotonic()
            ending.wait(LOOK_S)
    finally:
        tunnels.end()


def _tunnel(wanted: Wanted) -> Tunnel:
    """The tunnel, being opened."""

    def used(remote: Remote) -> bool:
        return residents(remote, wanted.pool, key_mark(wanted.pool)).live

    tunnel = Tunnel(wanted.login, lambda: _connected(wanted.socket), wanted.path, used)
    tunnel.start()
    return tunnel


def _file(state_dir: Path, pool: PoolId, host: str) -> Path:
    return state_dir / "tunnels" / f"{pool}-{quote(host, safe='@')}.json"


def _read(path: Path) -> tuple[str, Wanted] | None:
    """What a file says, as text and as what it means; None for one that is gone, or another kubeq's."""
    try:
        text = path.read_text(encoding="utf-8")
        return text, _decode(json.loads(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be used: %s", path, error)
        return None


def _replace(path: Path, document: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(document, default=str), encoding="utf-8")
    temporary.replace(path)


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
    return Wanted(
        pool=PoolId(document["pool"]),
        login=_login(document["login"]),
        socket=Path(document["socket"]),
        path=document["path"],
    )


def _login(document: Mapping[str, Any]) -> Login:
    paths = {name: tuple(Path(path) for path in document[name]) for name in _PATHS}
    return Login(**{**document, **paths, "jumps": tuple(_login(jump) for jump in document["jumps"])})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(Path(sys.argv[1]))
