"""Tunnels: a port on a host's own loopback that leads to a socket of this machine, for as long as somebody keeps it.

A tunnel that breaks is made again with growing pauses; each time the host is told the port anew, in a file, and what
is left there of the tunnel before is ended: a connection that a cut network has left half open would hold requests up.
What goes through a tunnel is not looked at.
"""

from __future__ import annotations

import logging
import random
import selectors
import shlex
import socket
import threading
import time
from collections.abc import Callable

import paramiko

from kubeq.errors import AccessDenied, BackendError, KubeqError
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_remote import Remote, connect
from kubeq.nodes.ssh_scripts import ALIVE

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 20.0
REFUSED_PAUSE_S = 300.0
"""A host that refuses our keys is asked rarely: some lock out whoever knocks too often."""
LOOK_S = 1.0
"""How often a standing connection is looked at."""
PROBE_EVERY_S = 10.0
"""How often the other end of a standing connection is asked whether it is there."""
USE_EVERY_S = 60.0
"""How often a host is asked whether anybody there still needs its tunnel."""
CHUNK = 2**16
LOOPBACK = "127.0.0.1"
_LISTENERS = """\
port=$(printf '%04X' {port})
for file in /proc/net/tcp /proc/net/tcp6; do
    while read -r _ local _ state _; do
        [ "$state" = 0A ] && [ "${{local##*:}}" = "$port" ] && echo "${{local%:*}}"
    done < "$file" 2>/dev/null
done
:"""
_TAKE_OVER = """\
{alive}
umask 077
mkdir -p "$(dirname {path})" || exit 1
# $PPID is the sshd that serves this connection: of the one before, nothing but a half open connection can be left.
if alive {path}.sshd && grep -q '^sshd' "/proc/$pid/comm"; then kill "$pid"; fi
record "$PPID" > {path}.sshd; echo 127.0.0.1:{port} > {path}.new && mv -f {path}.new {path}
"""
_LOCAL = frozenset({"0100007F", "00000000000000000000000001000000"})
"""127.0.0.1 and ::1 as /proc/net/tcp and tcp6 write them (proc_net_tcp(5))."""


def open_port(remote: Remote, target: Callable[[], socket.socket]) -> int:
    """A port on the host's loopback, each connection to which is one to `target()`.

    Raises AccessDenied if the host forwards nothing, or would show the port to other machines; then it is closed.
    """
    try:
        port = remote.transport.request_port_forward(
            LOOPBACK, 0, lambda channel, origin, server: _bridge(channel, target)
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        if not remote.transport.is_active():
            raise BackendError(f"the connection to {remote.login} broke", transient=True) from error
        raise AccessDenied(
            f"{remote.login} forwards no port, so agents there cannot reach this machine's queue",
            hint="set AllowTcpForwarding yes in its sshd_config, or use a queue and a store in a cloud",
        ) from error
    shown = set(remote.run(_LISTENERS.format(port=port)).out.split())
    if not shown <= _LOCAL:
        remote.close()  # to ask for the end of the forwarding is in vain where sshd took another address
        raise AccessDenied(
            f"{remote.login} would show the way to our queue to other machines (its sshd has GatewayPorts yes)",
            hint="set GatewayPorts no in its sshd_config",
        )
    return int(port)


def check_port(remote: Remote) -> None:
    """Make certain that the host would forward a port of its loopback, and to nobody else. Raises AccessDenied."""

    def nowhere() -> socket.socket:
        raise ConnectionRefusedError("it was opened to see whether it can be")

    port = open_port(remote, nowhere)
    try:
        remote.transport.cancel_port_forward(LOOPBACK, port)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise BackendError(f"the connection to {remote.login} broke", transient=True) from error


class Tunnel:
    """Keeps a port open on one host, from a thread of its own. `path` is the file there that holds `ADDRESS:PORT`.

    `target` opens a connection to what the port leads to. `used` asks the host whether anybody there needs it; the
    tunnel ends when nobody does. `problem` is why there is no tunnel now; None if there is.
    """

    def __init__(
        self, login: Login, target: Callable[[], socket.socket], path: str, used: Callable[[Remote], bool]
    ) -> None:
        self._login = login
        self._target = target
        self._path = path
        self._used = used
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"tunnel to {login}", daemon=True)
        self._asked_at = time.monotonic()
        self.problem: str | None = "it is being opened"

    @property
    def is_over(self) -> bool:
        """Whether it has ended by itself."""
        return self._ending.is_set()

    def start(self) -> None:
        """Begin to keep it; returns at once."""
        self._thread.start()

    def end(self) -> None:
        """Let it go; returns at once."""
        self._ending.set()

    def wait(self, patience_s: float = 5.0) -> None:
        """Until it has ended."""
        self._thread.join(max(0.0, patience_s))

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._ending.is_set():
            longest_s = LONGEST_PAUSE_S
            try:
                with connect(self._login) as remote:
                    self._hold(remote)
                pause_s, self.problem = FIRST_PAUSE_S, "the connection broke"
            except KubeqError as error:
                if self.problem != error.message:
                    log.warning("no tunnel to %s: %s", self._login, error.message)
                self.problem = error.message
                longest_s = REFUSED_PAUSE_S if isinstance(error, AccessDenied) else LONGEST_PAUSE_S
            self._ending.wait(random.uniform(pause_s / 2, pause_s))
            pause_s = min(2 * pause_s, longest_s)

    def _hold(self, remote: Remote) -> None:
        """Open the port and return when the connection is gone, or this is to end."""
        port = open_port(remote, self._target)
        answer = remote.run(_TAKE_OVER.format(alive=ALIVE, port=port, path=shlex.quote(self._path)))
        if answer.code:
            raise BackendError(f"{self._login}: {self._path} cannot be written: {answer.err.strip()[-200:]}")
        self.problem = None
        log.info("%s reaches this machine through its port %d", self._login, port)
        transport, probed_at = remote.transport, time.monotonic()
        while transport.is_active() and not self._ending.wait(LOOK_S):
            now = time.monotonic()
            if now - self._asked_at >= USE_EVERY_S:
                self._asked_at = now
                if not self._used(remote):
                    log.info("nobody on %s needs its tunnel any more", self._login)
                    self._ending.set()
            elif now - probed_at >= PROBE_EVERY_S and remote.answers():
                probed_at = now


def _bridge(channel: paramiko.Channel, target: Callable[[], socket.socket]) -> None:
    """Called in the connection's own thread, which must not wait."""
    threading.Thread(target=_carry, args=(channel, target), name="tunnelled", daemon=True).start()


def _carry(channel: paramiko.Channel, target: Callable[[], socket.socket]) -> None:
    """Pass bytes on in both directions until both have ended, or one side is gone."""
    try:
        connection = target()
    except OSError as error:
        log.warning("what a tunnel leads to does not answer: %s", error)
        channel.close()
        return
    with connection, channel:
        try:
            _copy_both(channel, connection)
        except (OSError, EOFError) as error:
            log.debug("a tunnelled connection broke: %s", error)


def _copy_both(channel: paramiko.Channel, connection: socket.socket) -> None:
    with selectors.DefaultSelector() as ready:
        ready.register(channel, selectors.EVENT_READ, (channel.recv, connection.sendall, connection))
        ready.register(connection, selectors.EVENT_READ, (connection.recv, channel.sendall, channel))
        while ready.get_map():
            for key, _ in ready.select():
                receive, send, other = key.data
                chunk = receive(CHUNK)
                if chunk:
                    send(chunk)
                    continue
                ready.unregister(key.fileobj)
                if other is channel:
                    channel.shutdown_write()
                else:
                    connection.shutdown(socket.SHUT_WR)
