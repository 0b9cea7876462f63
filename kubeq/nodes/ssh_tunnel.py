"""Tunnels: a port on a host's own loopback that leads to a socket of this machine, for as long as somebody keeps it.

A tunnel that breaks is made again with growing pauses; each time the host is told the port anew, in a file. What goes
through a tunnel is not looked at.
"""

from __future__ import annotations

import logging
import random
import selectors
import shlex
import socket
import threading
from collections.abc import Callable

import paramiko

from kubeq.errors import AccessDenied, BackendError, KubeqError
from kubeq.nodes.ssh_login import Login
from kubeq.nodes.ssh_remote import Remote, connect

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
LOOK_S = 1.0
"""How often a standing connection is looked at."""
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


class Tunnel:
    """Keeps a port open on one host, from a thread of its own. `path` is the file there that holds `ADDRESS:PORT`.

    `target` opens a connection to what the port leads to. `problem` is why there is no tunnel now; None if there is.
    """

    def __init__(self, login: Login, target: Callable[[], socket.socket], path: str) -> None:
        self._login = login
        self._target = target
        self._path = path
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"tunnel to {login}", daemon=True)
        self.problem: str | None = "it is being opened"

    def start(self) -> None:
        """Begin to keep it; returns at once."""
        self._thread.start()

    def close(self, wait_s: float = 5.0) -> None:
        """Let it go."""
        self._ending.set()
        self._thread.join(wait_s)

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                with connect(self._login) as remote:
                    self._hold(remote)
                pause_s = FIRST_PAUSE_S
            except KubeqError as error:
                self.problem = error.message
                log.warning("no tunnel to %s: %s", self._login, error.message)
                self._ending.wait(random.uniform(pause_s / 2, pause_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _hold(self, remote: Remote) -> None:
        """Open the port and return when the connection is gone, or this is to end."""
        port = open_port(remote, self._target)
        quoted = shlex.quote(self._path)
        answer = remote.run(
            f'umask 077; mkdir -p "$(dirname {quoted})" && echo {LOOPBACK}:{port} > {quoted}.new && '
            f"mv -f {quoted}.new {quoted}"
        )
        if answer.code:
            raise BackendError(f"{self._login}: {self._path} cannot be written: {answer.err.strip()[-200:]}")
        self.problem = None
        log.info("%s reaches this machine through its port %d", self._login, port)
        transport = remote.transport
        while transport.is_active() and not self._ending.wait(LOOK_S):
            pass
        if not self._ending.is_set():
            self.problem = "the connection broke"


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
